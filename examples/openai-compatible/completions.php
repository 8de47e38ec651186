<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

// POST /v1/chat/completions for clients of the OpenAI API: knows its users by their tokens, looks at the request,
// signs, and hands the connection to handoffd. Which models and how long an answer are the backend's to say.

use Handoffd\Exception\HandoffException;
use Handoffd\Handoff;
use Handoffd\Signer;

require getenv('HANDOFF_PHP') . '/autoload.php';

const BODY_MAX = 8 << 20;
/** What a user may say. The daemon knows more members (profile, response_headers...), which are the site's to set. */
const MEMBERS = [
    'messages', 'model', 'max_tokens', 'max_completion_tokens', 'temperature', 'top_p', 'presence_penalty',
    'frequency_penalty', 'stop', 'seed', 'n', 'logit_bias', 'logprobs', 'top_logprobs', 'reasoning_effort',
    'response_format', 'tools', 'tool_choice', 'parallel_tool_calls', 'stream_options',
];

/** Answers as the API does when it refuses, so that its clients know what to make of it. */
function refuse(int $status, string $type, string $message): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    header('Cache-Control: no-store');
    echo json_encode(['error' => ['message' => $message, 'type' => $type, 'param' => null, 'code' => null]]);
    exit;
}

/** Whose token this request bears. A line of the file of users: the SHA-256 of a token, a blank, a name. */
function user(string $file): string
{
    if (preg_match('/^Bearer ([!-~]+)$/iD', $_SERVER['HTTP_AUTHORIZATION'] ?? '', $match)) {
        $given = hash('sha256', $match[1]);
        foreach (file($file, FILE_IGNORE_NEW_LINES) as $line) {
            [$known, $name] = explode(' ', $line, 2) + ['', ''];
            if ($name !== '' && hash_equals($known, $given)) {
                return $name;
            }
        }
    }
    header('WWW-Authenticate: Bearer');
    refuse(401, 'authentication_error', 'This token is not known here.');
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    header('Allow: POST');
    refuse(405, 'invalid_request_error', 'This address takes POST requests only.');
}
$user = user((string) getenv('API_USERS'));

$body = file_get_contents('php://input', length: BODY_MAX + 1);
if ($body === false || strlen($body) > BODY_MAX) {
    refuse(413, 'invalid_request_error', 'The request is too long.');
}
$request = json_decode($body);
if (!is_object($request) || !is_array($request->messages ?? null)) {
    refuse(400, 'invalid_request_error', 'The request is not a JSON object with messages.');
}
if (($request->stream ?? null) !== true) {
    refuse(400, 'invalid_request_error', 'Only streamed answers are given here: set stream to true.');
}

try {
    (new Handoff(new Signer((string) getenv('HANDOFF_KEYS'))))
        ->to((string) getenv('HANDOFF_SOCKET'))
        ->data(array_intersect_key((array) $request, array_flip(MEMBERS)))
        ->subject($user)
        ->send();
} catch (HandoffException $exception) {
    error_log($exception->getMessage());
    header('Retry-After: 5');
    refuse(503, 'server_error', 'The answer could not be handed over.');
}
