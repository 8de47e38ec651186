<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

// The visitor of the demo: a session with an id of its own and a token against forged requests. A real site would
// have asked for a password by now.

session_name('handoff_demo');
session_start([
    'use_strict_mode' => true,
    'cookie_httponly' => true,
    'cookie_samesite' => 'Strict',
]);

/** @return array{visitor: string, csrf: string}|null null when this session was not begun by the page */
function visitor(): ?array
{
    $visitor = $_SESSION['visitor'] ?? null;
    $csrf = $_SESSION['csrf'] ?? null;

    return is_string($visitor) && is_string($csrf) ? ['visitor' => $visitor, 'csrf' => $csrf] : null;
}

/** @return array{visitor: string, csrf: string} */
function visitor_or_new(): array
{
    $_SESSION['visitor'] ??= bin2hex(random_bytes(8));
    $_SESSION['csrf'] ??= bin2hex(random_bytes(32));

    return visitor() ?? throw new UnexpectedValueException('the session holds something else');
}
