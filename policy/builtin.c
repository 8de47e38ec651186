/* SPDX-License-Identifier: Apache-2.0
 *
 * The shipped policies, as part of the binary: what runs is what was reviewed, whatever lies on the disk.
 */
#include "language.h"

#define BUILTIN(name)                                                                                                  \
	extern const char policy_##name##_start[], policy_##name##_end[];                                              \
	__asm__(".pushsection .rodata\n"                                                                               \
	        "policy_" #name "_start: .incbin \"policy/" #name ".policy\"\n"                                        \
	        "policy_" #name "_end: .byte 0\n"                                                                      \
	        ".popsection\n")

BUILTIN(libc);
BUILTIN(gate);
BUILTIN(streamer);
BUILTIN(dialer);
BUILTIN(launcher);
BUILTIN(supervisor);
BUILTIN(handler);

static const struct {
	const char *name;
	const char *file;
	const char *start;
	const char *end;
} builtins[] = {
    {"libc", "libc.policy", policy_libc_start, policy_libc_end},
    {"gate", "gate.policy", policy_gate_start, policy_gate_end},
    {"streamer", "streamer.policy", policy_streamer_start, policy_streamer_end},
    {"dialer", "dialer.policy", policy_dialer_start, policy_dialer_end},
    {"launcher", "launcher.policy", policy_launcher_start, policy_launcher_end},
    {"supervisor", "supervisor.policy", policy_supervisor_start, policy_supervisor_end},
    {"handler", "handler.policy", policy_handler_start, policy_handler_end},
};

struct span policy_builtin(const char *name, const char **file)
{
	for (size_t i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++) {
		if (strcmp(name, builtins[i].name) == 0) {
			*file = builtins[i].file;
			return span_of(builtins[i].start, (size_t)(builtins[i].end - builtins[i].start));
		}
	}
	return SPAN_EMPTY;
}
