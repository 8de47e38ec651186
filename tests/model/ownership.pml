/* SPDX-License-Identifier: Apache-2.0
 *
 * Ownership of one client during a handoff (docs/protocol.md, section 3), as a model for spin.
 *
 * Module, gate and two streamers, each of which may crash between any two steps; the module sends again while it has
 * attempts left. A client is followed until nothing moves any more. Checked:
 *
 *   one writer      of all processes at most one ever writes to the client, and at most one says accepted
 *   an answer       the client got a whole answer, or a close after the process that owned it crashed: the module until
 *                   accepted was sent, from then on the streamer that sent it
 *   nothing leaks   in the end every copy of the client socket and of the reply sockets is closed
 *
 * A reply socket is a counted resource: the module reads end of file when all copies of the other end are closed. A copy
 * in a queue counts, and is closed when the receiver of the queue dies.
 *
 * With -D, rules that are broken on purpose, which the checks must notice:
 *   MUTANT_GATE_ACCEPTS          the gate says accepted and then gives the client to a streamer
 *   MUTANT_WRITE_BEFORE_ACCEPT   the streamer writes before accepted was sent
 *   MUTANT_EOF_IS_ACCEPT         the module takes end of file on the reply socket for accepted
 */
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* how often the module sends; each attempt has a reply socket of its own */
#endif
#ifndef CRASHES
#define CRASHES 1 /* of gate and of each streamer; the module crashes once at most */
#endif
#define STREAMERS 2

mtype = { accepted, refused };

/* The client's socket: copies of its descriptor, in processes and in queues. */
byte client_copies = 1;
byte writers = 0; /* processes that ever wrote to the client */
byte answers = 0; /* whole answers */
byte accepts = 0; /* successful sends of accepted */
bool module_gone = false; /* done with the client, or crashed */
bool module_crashed = false;
bool owner_crashed = false; /* the streamer that sent accepted died before it had answered */

/* Reply socket of each attempt. */
byte reply_copies[ATTEMPTS];            /* copies of the daemon's end */
bool reply_shut[ATTEMPTS];              /* the module's end is shut down or closed: sends fail with EPIPE */
chan reply[ATTEMPTS] = [2] of { mtype }; /* sent, not yet read by the module */

/* Messages with both descriptors, by attempt. A connection that the gate has not accepted yet outlives the gate, since
 * systemd or the supervisor holds the listening socket; one that it has accepted dies with it. */
chan backlog = [ATTEMPTS] of { byte };
chan gate_queue = [ATTEMPTS] of { byte };
chan streamer_queue[STREAMERS] = [ATTEMPTS] of { byte };

bool gate_up = true;
bool streamer_up[STREAMERS] = true;

/* Who is to crash now, by process number: nothing else happens before it has. */
#define MODULE   0
#define GATE     1
#define STREAMER 2 /* the first */
#define NOBODY   255
byte crashing = NOBODY;
#define RUNS provided (crashing == NOBODY || crashing == _pid)

inline begin_writing()
{
	writers++;
	assert(writers <= 1)
}

inline answer_whole()
{
	answers++;
	assert(answers <= 1)
}

/* What the receiver of a message owns; the flags say what crashing has to close. */
inline receive(queue)
{
	atomic {
		queue ? attempt;
		has_client = true;
		has_reply = true
	}
}

/* The copy that travels is a new one. */
inline send_copies(queue, which)
{
	queue ! which;
	reply_copies[which]++;
	client_copies++
}

inline close_client()
{
	atomic {
		if
		:: has_client -> has_client = false; client_copies--
		:: else
		fi
	}
}

inline close_reply()
{
	atomic {
		if
		:: has_reply -> has_reply = false; reply_copies[attempt]--
		:: else
		fi
	}
}

/* Everything that a crash closes: what the process holds, and the messages in its queue. */
inline close_all(queue)
{
	close_reply();
	close_client();
	do
	:: nempty(queue) -> queue ? attempt; reply_copies[attempt]--; client_copies--
	:: empty(queue) -> break
	od
}

inline say_refused()
{
	atomic {
		if
		:: reply_shut[attempt]
		:: else -> reply[attempt] ! refused
		fi
	}
}

/* sent becomes false on EPIPE. */
inline say_accepted()
{
	atomic {
		if
		:: reply_shut[attempt] -> sent = false
		:: else -> reply[attempt] ! accepted; sent = true; accepts++; assert(accepts <= 1)
		fi
	}
}

active proctype module() RUNS
{
	byte attempt = 0;
	bool has_client = true;
	bool has_reply = false; /* the daemon's end, until it is sent */

	{
		skip;
send:
		atomic { reply_copies[attempt] = 1; has_reply = true }
		if
		:: atomic { gate_up -> send_copies(gate_queue, attempt) }
		:: atomic { send_copies(backlog, attempt) }
		:: true /* no connection, full backlog, EPIPE: not sent */
		fi;
		/* Our own copy would keep end of file away. */
		close_reply();

		if
		:: reply[attempt] ? accepted -> goto let_go
		:: reply[attempt] ? refused -> goto error_page
		:: atomic { reply_copies[attempt] == 0 && empty(reply[attempt]) -> skip }
#ifdef MUTANT_EOF_IS_ACCEPT
		   goto let_go
#endif
		:: true /* waited long enough */ ->
		   reply_shut[attempt] = true;
		   if
		   :: reply[attempt] ? accepted -> goto let_go
		   :: reply[attempt] ? refused -> goto error_page
		   :: empty(reply[attempt])
		   fi
		fi;
		reply_shut[attempt] = true;
		if
		:: atomic { attempt < ATTEMPTS - 1 -> attempt++ }
		   goto send
		:: goto error_page /* no time left */
		fi;

error_page:
		begin_writing();
		answer_whole();
let_go:
		atomic { reply_shut[attempt] = true; module_gone = true }
		close_client()
	} unless {
		atomic {
			crashing == _pid;
			crashing = NOBODY;
			module_gone = true;
			module_crashed = true;
			reply_shut[attempt] = true;
			close_reply();
			close_client()
		}
	}
}

active proctype gate() RUNS
{
	byte attempt = 0;
	bool has_client = false;
	bool has_reply = false;
	bool sent = true;

	do
	:: {
		skip;
end_gate:
		do
		:: atomic { backlog ? attempt -> gate_queue ! attempt } /* accept() */
		:: receive(gate_queue);
#ifdef MUTANT_GATE_ACCEPTS
		   say_accepted();
#endif
		   if
		   :: !sent
		   :: sent -> say_refused() /* token, limits, no streamer */
		   :: atomic { sent && streamer_up[0] -> send_copies(streamer_queue[0], attempt) }
		   :: atomic { sent && streamer_up[1] -> send_copies(streamer_queue[1], attempt) }
		   fi;
		   close_reply();
		   close_client()
		od
	   } unless {
		atomic {
			crashing == _pid;
			crashing = NOBODY;
			gate_up = false;
			close_all(gate_queue)
		}
		atomic { gate_up = true; sent = true; attempt = 0 }
	   }
	od
}

active [STREAMERS] proctype streamer() RUNS
{
	byte self = _pid - STREAMER;
	byte attempt = 0;
	bool has_client = false;
	bool has_reply = false;
	bool sent = false;
	bool owns = false; /* said accepted, has not answered yet */

	do
	:: {
		skip;
end_streamer:
		do
		:: receive(streamer_queue[self]);
		   if
		   :: true -> say_refused()
		   :: true ->
#ifdef MUTANT_WRITE_BEFORE_ACCEPT
		      begin_writing();
#endif
		      atomic {
#ifdef MUTANT_GATE_ACCEPTS
			sent = true
#else
			say_accepted();
			owns = sent
#endif
		      }
		      if
		      :: sent ->
#ifndef MUTANT_WRITE_BEFORE_ACCEPT
			 begin_writing();
#endif
			 atomic { answer_whole(); owns = false }
		      :: else /* EPIPE: the client is Apache's */
		      fi
		   fi;
		   close_reply();
		   close_client()
		od
	   } unless {
		atomic {
			crashing == _pid;
			crashing = NOBODY;
			streamer_up[self] = false;
			owner_crashed = owner_crashed || owns;
			owns = false;
			close_all(streamer_queue[self])
		}
		atomic { streamer_up[self] = true; sent = false; attempt = 0 }
	   }
	od
}

active proctype crashes() RUNS
{
	byte of_gate = 0;
	byte of_streamer[STREAMERS] = 0;

	do
	:: atomic { !module_gone -> crashing = MODULE }
	:: atomic { of_gate < CRASHES && gate_up -> of_gate++; crashing = GATE }
	:: atomic { of_streamer[0] < CRASHES && streamer_up[0] -> of_streamer[0]++; crashing = STREAMER }
	:: atomic { of_streamer[1] < CRASHES && streamer_up[1] -> of_streamer[1]++; crashing = STREAMER + 1 }
	:: break
	od
}

/* When nothing moves any more. */
active proctype verdict()
{
	byte i = 0;

	timeout ->
	assert(client_copies == 0);
	do
	:: i < ATTEMPTS -> assert(reply_copies[i] == 0); i++
	:: else -> break
	od;
	assert(answers == 1 || (accepts == 0 && module_crashed) || (accepts == 1 && owner_crashed))
}
