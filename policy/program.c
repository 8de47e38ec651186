/* SPDX-License-Identifier: Apache-2.0
 *
 * Program: the kernel's part, played here, for questions about a compiled policy.
 */
#include "language.h"

#define UNKNOWN UINT32_MAX

static bool jumps(uint16_t code, uint32_t accumulator, uint32_t operand)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return accumulator == operand;
	case BPF_JGT:
		return accumulator > operand;
	case BPF_JGE:
		return accumulator >= operand;
	default:
		return (accumulator & operand) != 0; /* BPF_JSET */
	}
}

uint32_t policy_program_run(const struct sock_fprog *program, const struct seccomp_data *data)
{
	uint32_t accumulator = 0;

	for (size_t at = 0; at < program->len; at++) {
		const struct sock_filter *instruction = &program->filter[at];

		switch (instruction->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (instruction->k > sizeof(*data) - sizeof(accumulator))
				return UNKNOWN;
			memcpy(&accumulator, (const char *)data + instruction->k, sizeof(accumulator));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			accumulator &= instruction->k;
			break;
		case BPF_JMP | BPF_JA:
			at += instruction->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGT | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
		case BPF_JMP | BPF_JSET | BPF_K:
			at += jumps(instruction->code, accumulator, instruction->k) ? instruction->jt : instruction->jf;
			break;
		case BPF_RET | BPF_K:
			return instruction->k;
		default:
			return UNKNOWN;
		}
	}
	return UNKNOWN;
}
