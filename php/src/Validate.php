<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\InvalidArgumentException;

/**
 * What the module and the daemon would refuse is refused here, where the mistake is made.
 *
 * @internal
 */
final class Validate
{
    /** Bytes; the lengths that fit the message from module to daemon. */
    public const SOCKET_PATH_MAX = 107;
    public const SUBJECT_MAX = 256;
    /** Bytes of name and value together: php-fpm's header lines reach Apache only up to 8 KiB. */
    public const HEADER_MAX = 8000;
    public const ATTACHMENT_NAME_MAX = 255;

    private const TOKEN = '[!#$%&\'*+.^_`|~0-9A-Za-z-]+';

    /** Headers that do not travel: of one connection, of a body that is not sent; and Status, which is CGI's. */
    private const HEADERS_OF_OTHERS = [
        'connection', 'content-encoding', 'content-length', 'content-range', 'etag', 'http2-settings', 'keep-alive',
        'proxy-authenticate', 'proxy-authentication-info', 'proxy-authorization', 'proxy-connection', 'status', 'te',
        'trailer', 'transfer-encoding', 'upgrade',
    ];

    /**
     * Whether these bytes arrive unchanged as a header's value: printable ASCII, no blank at either end (servers trim
     * and merge headers on the way).
     */
    public static function fitsHeader(string $bytes): bool
    {
        return preg_match('/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/D', $bytes) === 1;
    }

    /** @throws InvalidArgumentException */
    public static function socketPath(string $path): void
    {
        if (preg_match('/^\/[\x21-\x7e]+$/D', $path) !== 1 || strlen($path) > self::SOCKET_PATH_MAX) {
            throw new InvalidArgumentException(
                'a socket path is absolute, at most ' . self::SOCKET_PATH_MAX
                . ' bytes long, printable and without blanks'
            );
        }
    }

    /** @throws InvalidArgumentException */
    public static function subject(string $subject): void
    {
        if ($subject !== '' && (strlen($subject) > self::SUBJECT_MAX || !self::fitsHeader($subject))) {
            throw new InvalidArgumentException(
                'a subject has at most ' . self::SUBJECT_MAX . ' printable ASCII characters and no blank at either end'
            );
        }
    }

    /** @throws InvalidArgumentException */
    public static function header(string $name, string $value): void
    {
        if (preg_match('/^' . self::TOKEN . '$/D', $name) !== 1) {
            throw new InvalidArgumentException('a header\'s name is made of letters, digits and !#$%&\'*+-.^_`|~');
        }
        // Some gateways take _ for -.
        $plain = strtolower(strtr($name, '_', '-'));
        if ($plain === 'x-socket-handoff' || str_starts_with($plain, 'x-handoff-')) {
            throw new InvalidArgumentException("$name is a control header: use to(), data() and subject()");
        }
        if (in_array($plain, self::HEADERS_OF_OTHERS, true)) {
            throw new InvalidArgumentException("$name belongs to the connection or to a body: it would not travel");
        }
        if (preg_match('/[^\t\x20-\x7e\x80-\xff]/', $value) === 1 || trim($value, " \t") !== $value) {
            throw new InvalidArgumentException("$name: a value has no line breaks, control bytes, blanks at its ends");
        }
        if (strlen($name) + strlen($value) > self::HEADER_MAX) {
            throw new InvalidArgumentException("$name: longer than " . self::HEADER_MAX . ' bytes');
        }
    }

    /** @throws InvalidArgumentException */
    public static function attachment(string $name, string $type): void
    {
        // Receivers may use it as a file's name; they must check it too.
        $safe = preg_match('/^[^\x00-\x1f\x7f\/\\\\]+$/Du', $name) === 1 && $name !== '.' && $name !== '..';
        if (!$safe || strlen($name) > self::ATTACHMENT_NAME_MAX) {
            throw new InvalidArgumentException(
                'an attachment\'s name is UTF-8 of 1 to ' . self::ATTACHMENT_NAME_MAX
                . ' bytes without slashes, backslashes and control characters'
            );
        }
        $pattern = '/^' . self::TOKEN . '\/' . self::TOKEN . '( *;[\x20-\x7e]+)?$/D';
        if (preg_match($pattern, $type) !== 1 || strlen($type) > self::ATTACHMENT_NAME_MAX) {
            throw new InvalidArgumentException("attachment $name: its type is a media type such as image/png");
        }
    }
}
