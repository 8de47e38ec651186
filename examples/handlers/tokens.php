<?php
// SPDX-License-Identifier: Apache-2.0
// A PHP program that makes its own events: mode = http, run as {"/usr/bin/php", "-n", "/path/tokens.php"}.
ini_set('display_errors', 'stderr'); // into the log, not into the answer
ini_set('pcre.jit', '0');            // no memory of a handler is executable

$request = json_decode(getenv('HANDOFF_DATA') ?: '{}', true);
$prompt = is_array($request) && is_string($request['prompt'] ?? null) ? $request['prompt'] : '';

echo "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n\r\n";
foreach (preg_split('/(?<=\s)/', $prompt, -1, PREG_SPLIT_NO_EMPTY) as $word) {
    echo 'data: ', json_encode(['content' => $word], JSON_INVALID_UTF8_SUBSTITUTE), "\n\n";
    flush();
}
echo "data: [DONE]\n\n";
