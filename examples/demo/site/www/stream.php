<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

// Takes a conversation, decides whether this visitor may ask, signs, and hands the connection to handoffd.

use Handoffd\Exception\HandoffException;
use Handoffd\Handoff;
use Handoffd\Signer;

require __DIR__ . '/../session.php';
require __DIR__ . '/../handoff/autoload.php';

/** Bytes of the request's body, and number of messages. */
const BODY_MAX = 262144;
const MESSAGES_MAX = 100;
const TOO_LONG = 'The conversation is too long. Please load the page again to begin a new one.';

function refuse(int $status, string $why): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    header('Cache-Control: no-store');
    echo json_encode(['error' => $why]);
    exit;
}

/**
 * The conversation, rebuilt from what is allowed in it: text by the user and the assistant, the user last.
 *
 * @return list<array{role: string, content: string}>
 */
function conversation(string $body): array
{
    $given = json_decode($body, true, 8);
    $messages = is_array($given) ? ($given['messages'] ?? null) : null;
    if (!is_array($messages) || $messages === []) {
        refuse(400, 'The message could not be read.');
    }
    if (count($messages) > MESSAGES_MAX) {
        refuse(413, TOO_LONG);
    }
    $conversation = [];
    foreach ($messages as $message) {
        $role = is_array($message) ? ($message['role'] ?? null) : null;
        $content = is_array($message) ? ($message['content'] ?? null) : null;
        if (!in_array($role, ['user', 'assistant'], true) || !is_string($content)) {
            refuse(400, 'The message could not be read.');
        }
        $conversation[] = ['role' => $role, 'content' => $content];
    }
    $last = end($conversation);
    if ($last['role'] !== 'user' || trim($last['content']) === '') {
        refuse(400, 'There is nothing to answer.');
    }

    return $conversation;
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    header('Allow: POST');
    refuse(405, 'This address takes POST requests only.');
}
$visitor = visitor();
$csrf = $_SERVER['HTTP_X_CSRF_TOKEN'] ?? '';
if ($visitor === null || !is_string($csrf) || !hash_equals($visitor['csrf'], $csrf)) {
    refuse(403, 'The session has ended.');
}
// The session file is locked while it is open: other requests of this visitor need not wait for the answer.
session_write_close();

$body = file_get_contents('php://input', length: BODY_MAX + 1);
if ($body === false || strlen($body) > BODY_MAX) {
    refuse(413, TOO_LONG);
}
$messages = conversation($body);

try {
    (new Handoff(new Signer((string) getenv('DEMO_KEYS'))))
        ->to((string) getenv('DEMO_SOCKET'))
        ->data(['messages' => $messages])
        ->subject('visitor-' . $visitor['visitor'])
        ->send();
} catch (HandoffException $exception) {
    error_log($exception->getMessage());
    refuse(503, 'The answer could not be handed over. The server\'s log says why.');
}
