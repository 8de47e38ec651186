<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\HeadersSentException;

/**
 * Hands this request's client to a daemon: writes the signed control headers of docs/protocol.md, section 1, which
 * mod_socket_handoff takes out of the response and acts on.
 */
final class Handoff
{
    /**
     * Bytes. Longer data goes into the body: php-fpm's header lines reach Apache only up to 8 KiB.
     */
    public const HEADER_DATA_MAX = 4096;

    public function __construct(private readonly Signer $signer)
    {
    }

    /**
     * Sign and emit everything; the script should end right after. Whatever it printed before or prints later is
     * thrown away. Other headers it set (cookies, CORS) reach the client with the daemon's answer; set them before.
     *
     * @param string $socketPath the daemon's socket, e.g. /run/handoffd/chat.sock
     * @param string $data       for the daemon, normally JSON; any bytes
     * @param string $subject    whom limits, logs and accounting count this for; '' for nobody in particular
     *
     * @throws HeadersSentException              output has left already, or a buffer cannot be removed
     * @throws Exception\InvalidArgumentException socket path or subject that no verifier would accept
     * @throws Exception\NoBindingException       the module is not enabled for this request
     * @throws Exception\KeyRingException         the key ring is faulty, or no key signs for this path
     *
     * When it throws, no control header was set and the script may answer in another way.
     */
    public function send(string $socketPath, string $data, string $subject = ''): void
    {
        if (headers_sent($file, $line)) {
            throw new HeadersSentException("the response has begun already, at $file:$line");
        }
        $token = $this->signer->token($socketPath, $data, $subject);
        self::discardOutput();

        header('X-Socket-Handoff: ' . $socketPath);
        header('X-Handoff-Token: ' . $token);
        if ($subject !== '') {
            header('X-Handoff-Subject: ' . $subject);
        }
        if ($data !== '' && strlen($data) <= self::HEADER_DATA_MAX && self::fitsHeader($data)) {
            header('X-Handoff-Data: ' . $data);
        } elseif ($data !== '') {
            header('X-Handoff-Data-Source: body');
            echo $data;
        }
        // The signature covers the body byte for byte: nothing may follow it.
        ob_start(static fn (string $output): string => '');
    }

    /**
     * Whether these bytes arrive unchanged as a header's value: printable ASCII, no blank at either end (servers trim
     * and merge headers on the way).
     */
    public static function fitsHeader(string $bytes): bool
    {
        return preg_match('/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/D', $bytes) === 1;
    }

    /** Earlier output would mix with the data, and an output handler (compression) would change it. */
    private static function discardOutput(): void
    {
        while (ob_get_level() > 0) {
            if (!@ob_end_clean()) {
                throw new HeadersSentException('an output buffer cannot be removed');
            }
        }
    }
}
