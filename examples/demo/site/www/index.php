<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

require __DIR__ . '/../session.php';

$csrf = visitor_or_new()['csrf'];
$nonce = base64_encode(random_bytes(16));
header('Content-Type: text/html; charset=utf-8');
header('Cache-Control: no-store');
header('Referrer-Policy: no-referrer');
header('X-Content-Type-Options: nosniff');
header("Content-Security-Policy: default-src 'none'; img-src data:; script-src 'nonce-$nonce'; style-src 'nonce-$nonce'; "
    . "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'");
?>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="csrf-token" content="<?= $csrf ?>">
<title>handoffd demo</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" nonce="<?= $nonce ?>" href="chat.css">
<script type="module" nonce="<?= $nonce ?>" src="chat.mjs"></script>
</head>
<body>
<header>
<h1>handoffd demo</h1>
<p>PHP checks the session and signs; from then on a sandboxed process answers on this very connection.</p>
</header>
<main>
<div id="log" role="log" aria-live="polite" aria-label="Conversation"></div>
<form id="form">
<p id="status" role="status"></p>
<label for="prompt">Message</label>
<textarea id="prompt" name="prompt" rows="2" required autofocus enterkeyhint="send" aria-describedby="hint"></textarea>
<p id="hint">Enter sends, Shift+Enter starts a new line, Escape stops the answer.</p>
<div class="buttons">
<button type="submit" id="send">Send</button>
<button type="button" id="stop" disabled>Stop</button>
</div>
</form>
<noscript><p>This page needs JavaScript to show an answer while it arrives.</p></noscript>
</main>
</body>
</html>
