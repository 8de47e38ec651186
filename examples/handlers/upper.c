/* SPDX-License-Identifier: Apache-2.0
 *
 * A C program that answers with the data in capitals: mode = http. cc -O2 -o upper upper.c
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	const char *descriptor = getenv("HANDOFF_DATA_FD");
	FILE *data = descriptor != NULL ? fdopen((int)strtol(descriptor, NULL, 10), "r") : NULL;
	int c;

	if (data == NULL || fseek(data, 0, SEEK_END) != 0)
		return 1;
	printf("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %ld\r\n\r\n",
	       ftell(data));
	rewind(data);
	while ((c = getc(data)) != EOF)
		putchar(toupper(c));
	return ferror(data) || fflush(stdout) != 0;
}
