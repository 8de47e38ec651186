/* SPDX-License-Identifier: Apache-2.0
 *
 * Handoff: the last content filter. It removes control headers that came late, and carries out the handoff that the
 * capture filter found: verify, finish with the client's request, transfer, let go; or refuse. A relayed client is not
 * let go of: its answer comes back here.
 */
#include "module.h"

#define RETRY_AFTER_DEFAULT 1 /* second */

static void handoff_note(request_rec *r, const struct handoff *handoff, const struct outcome *outcome)
{
	const char *accepted = handoff->relay ? "relayed" : "accepted";
	const char *result = outcome->lost                  ? "lost"
	                     : outcome->reason == REASON_OK ? accepted
	                                                    : reason_name(outcome->reason);

	counters_outcome(handoff, outcome);
	apr_table_setn(r->notes, "handoff-result", result);
	if (outcome->stream_id)
		apr_table_setn(r->notes, "handoff-id", apr_psprintf(r->pool, "%" APR_UINT64_T_FMT, outcome->stream_id));
}

static void handoff_log(request_rec *r, const struct handoff *handoff, const struct outcome *outcome)
{
	bool fault = outcome->status >= HTTP_INTERNAL_SERVER_ERROR;
	int level = outcome->reason == REASON_CLIENT_GONE ? APLOG_INFO : fault ? APLOG_ERR : APLOG_WARNING;
	const char *kid = handoff->kid[0] ? handoff->kid : "-";

	ap_log_rerror(APLOG_MARK, level, outcome->error, r,
	              "%s: handoff refused by the %s: reason=%s status=%d socket=%s kid=%s (%s)",
	              outcome->by_daemon ? "AHSH0102" : "AHSH0101", outcome->by_daemon ? "daemon" : "module",
	              reason_name(outcome->reason), outcome->status, handoff->controls.value[CONTROL_SOCKET], kid,
	              reason_meaning(outcome->reason));
}

/* httpd's own error page, the same for every reason of a status: nothing of the application's response is in it. */
static apr_status_t handoff_refuse(ap_filter_t *f, apr_bucket_brigade *bb, const struct outcome *outcome)
{
	request_rec *r = f->r;
	struct handoff *handoff = f->ctx;

	if (handoff->relay)
		relay_close(handoff->relay);
	handoff_note(r, handoff, outcome);
	handoff_log(r, handoff, outcome);
	apr_table_clear(r->headers_out);
	/* Script handlers leave all their headers here, and httpd would keep them. What mod_headers set always, it sets
	 * again for the error page. */
	apr_table_clear(r->err_headers_out);
	if (outcome->retry_after)
		apr_table_setn(r->err_headers_out, "Retry-After", apr_psprintf(r->pool, "%u", outcome->retry_after));
	r->status_line = NULL;
	r->no_cache = 0; /* it would add an Expires header */
	/* The error is this one, not what the application set; but an ErrorDocument that fails is a second error. */
	r->status = r->prev && r->prev->status != HTTP_OK ? r->prev->status : HTTP_OK;

	apr_brigade_cleanup(bb);
	/* Not an error bucket: the header filter would mix both header tables before it calls this, and Retry-After
	 * would be lost with the application's headers. ap_die() sets up fresh filters for the error page. */
	ap_die(outcome->status, r);
	/* The client has its answer; for the handler, which is done, that is no failure. */
	return APR_SUCCESS;
}

static bool relay_wanted(const request_rec *r, const struct handoff *handoff)
{
	return client_relayable(r) && setting(handoff->config, SETTING_RELAY) &&
	       setting(handoff->config, SETTING_PROTOCOL) == PROTOCOL_HANDOFF;
}

/* The descriptor that goes to the daemon, with the request read and what was written before gone; -1 with the reason.
 */
static int client_prepare(request_rec *r, struct handoff *handoff, struct outcome *outcome)
{
	bool relayed = relay_wanted(r, handoff);
	int client = client_transferable(r);

	outcome->reason = REASON_NOT_TRANSFERABLE;
	if (client < 0 && !relayed)
		return -1;

	/* Whatever of the body the handler has not read would be the daemon's first input. */
	outcome->reason = REASON_CLIENT_GONE;
	int status = ap_discard_request_body(r);
	if (status != OK) {
		outcome->status = ap_is_HTTP_ERROR(status) ? status : HTTP_BAD_REQUEST;
		return -1;
	}
	if (relayed) {
		outcome->reason = relay_open(r, handoff, outcome);
		return outcome->reason == REASON_OK ? relay_descriptor(handoff->relay) : -1;
	}
	outcome->error = client_flush(r);
	if (outcome->error)
		return -1;
	outcome->reason = REASON_OK;
	return client;
}

/* One handoff, step by step. */
static void handoff_run(request_rec *r, struct handoff *handoff, struct outcome *outcome)
{
	outcome->reason = handoff->refusal;
	if (outcome->reason == REASON_OK)
		outcome->reason = verify_token(r, handoff);
	if (outcome->reason != REASON_OK)
		return;
	int client = client_prepare(r, handoff, outcome);
	if (client < 0)
		return;
	transfer(r, handoff, client, outcome);
	if (outcome->lost && handoff->relay) { /* nobody but us can write to this client */
		outcome->lost = false;
		outcome->reason = REASON_RELAY_BROKEN;
	}
}

/* The daemon answers: copy that to the client, as long as it takes. */
static apr_status_t handoff_relay(ap_filter_t *f, apr_bucket_brigade *bb)
{
	request_rec *r = f->r;
	struct handoff *handoff = f->ctx;
	struct outcome outcome = {.reason = REASON_RELAY_BROKEN, .status = HTTP_BAD_GATEWAY};

	apr_brigade_cleanup(bb);
	switch (relay_run(r, handoff->relay, f->next)) {
	case RELAY_DONE:
		break;
	case RELAY_UNANSWERED:
		return handoff_refuse(f, bb, &outcome);
	case RELAY_CUT:
		apr_table_setn(r->notes, "handoff-result", reason_name(REASON_RELAY_BROKEN));
		ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "AHSH0104: relay: the daemon broke off in the middle");
		break;
	case RELAY_CLIENT_GONE:
		ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "AHSH0105: relay: the client has gone");
		break;
	}
	return APR_SUCCESS;
}

static apr_status_t handoff_decide(ap_filter_t *f, apr_bucket_brigade *bb)
{
	request_rec *r = f->r;
	struct handoff *handoff = f->ctx;
	struct outcome outcome = {.reason = REASON_OK};

	handoff->state = HANDOFF_DECIDED;
	handoff_run(r, handoff, &outcome);
	if (outcome.reason != REASON_OK && !outcome.lost) {
		if (!outcome.status)
			outcome.status = reason_status(outcome.reason);
		if (!outcome.retry_after &&
		    (outcome.status == HTTP_SERVICE_UNAVAILABLE || outcome.status == HTTP_TOO_MANY_REQUESTS))
			outcome.retry_after = RETRY_AFTER_DEFAULT;
		return handoff_refuse(f, bb, &outcome);
	}
	if (outcome.lost)
		ap_log_rerror(APLOG_MARK, APLOG_ERR, outcome.error, r,
		              "AHSH0103: nobody knows whether the daemon on %s has the client: it is left to it (%s)",
		              handoff->controls.value[CONTROL_SOCKET], reason_meaning(outcome.reason));
	handoff_note(r, handoff, &outcome);
	if (handoff->relay)
		return handoff_relay(f, bb);
	client_release(r);
	r->eos_sent = 1;
	apr_brigade_cleanup(bb);
	return APR_SUCCESS;
}

static bool brigade_ends(apr_bucket_brigade *bb)
{
	for (apr_bucket *b = APR_BRIGADE_FIRST(bb); b != APR_BRIGADE_SENTINEL(bb); b = APR_BUCKET_NEXT(b))
		if (APR_BUCKET_IS_EOS(b))
			return true;
	return false;
}

apr_status_t handoff_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
	struct handoff *handoff = f->ctx;

	/* Also what mod_headers and other filters added. */
	control_strip(f->r->headers_out);
	control_strip(f->r->err_headers_out);
	if (handoff && handoff->state == HANDOFF_WANTED && brigade_ends(bb))
		return handoff_decide(f, bb);
	if (handoff && (handoff->state == HANDOFF_WANTED || handoff->state == HANDOFF_DECIDED)) {
		apr_brigade_cleanup(bb); /* what a filter made of an empty body */
		return APR_SUCCESS;
	}
	ap_remove_output_filter(f);
	return ap_pass_brigade(f->next, bb);
}
