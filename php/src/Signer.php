<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\InvalidArgumentException;
use Handoffd\Exception\NoBindingException;

/**
 * Makes tokens for the request that this script answers, with a key of the key ring.
 *
 * The key ring is read on the first token, so a script that never hands off never touches it.
 */
final class Signer
{
    /** Seconds a token is good for, from now. Verifiers refuse more than 60 ahead. */
    public const LIFETIME = 30;
    public const LIFETIME_MAX = 60;
    /** Bytes; the lengths that fit the message from module to daemon. */
    public const SOCKET_PATH_MAX = 107;
    public const SUBJECT_MAX = 256;

    /** Bytes; longer than any binding the module makes. */
    private const BINDING_MAX = 95;

    private readonly TokenV1 $token;
    private ?KeyRing $keyRing = null;

    /**
     * @param string $keyFile   the key ring, e.g. /etc/handoffd/keys
     * @param int    $lifetime  seconds, 1 to 60
     * @param bool   $useSodium false computes with hash_hmac() even where ext-sodium is loaded
     *
     * @throws InvalidArgumentException when the lifetime is out of range
     */
    public function __construct(
        private readonly string $keyFile,
        private readonly int $lifetime = self::LIFETIME,
        bool $useSodium = true,
    ) {
        if ($lifetime < 1 || $lifetime > self::LIFETIME_MAX) {
            throw new InvalidArgumentException('a token lives 1 to ' . self::LIFETIME_MAX . ' seconds');
        }
        $this->token = new TokenV1($useSodium);
    }

    /**
     * A token for handing this request's client to a socket. It is good for this request only.
     *
     * @param string $socketPath the daemon's socket, e.g. /run/handoffd/chat.sock
     * @param string $data       the data's bytes exactly as they will be sent; '' when there is none
     * @param string $subject    whom to count this for; '' when nobody in particular
     *
     * @throws InvalidArgumentException   socket path or subject that no verifier would accept
     * @throws NoBindingException         the module is not enabled for this request
     * @throws Exception\KeyRingException the key ring is faulty, or no key signs for this path
     */
    public function token(string $socketPath, string $data, string $subject = ''): string
    {
        self::checkSocketPath($socketPath);
        self::checkSubject($subject);
        $binding = self::binding();
        $this->keyRing ??= KeyRing::load($this->keyFile);
        $key = $this->keyRing->signingKey($socketPath);

        return $this->token->sign($key, time() + $this->lifetime, $binding, $socketPath, $subject, $data);
    }

    /**
     * What the module calls this request. Only the variable that the web server sets is asked: HTTP_HANDOFF_BINDING is
     * a request header, which a client could send, and REDIRECT_HANDOFF_BINDING is that of an earlier request.
     */
    private static function binding(): string
    {
        $binding = $_SERVER['HANDOFF_BINDING'] ?? null;
        if ($binding === null || $binding === '') {
            throw new NoBindingException('no HANDOFF_BINDING: mod_socket_handoff is not enabled for this request');
        }
        $printable = is_string($binding) && preg_match('/^v1;[\x21-\x7e]+$/D', $binding) === 1;
        if (!$printable || strlen($binding) > self::BINDING_MAX) {
            throw new NoBindingException('HANDOFF_BINDING is not a binding of version 1: module and package do not match');
        }

        return $binding;
    }

    private static function checkSocketPath(string $path): void
    {
        if (preg_match('/^\/[\x21-\x7e]+$/D', $path) !== 1 || strlen($path) > self::SOCKET_PATH_MAX) {
            throw new InvalidArgumentException(
                'a socket path is absolute, at most ' . self::SOCKET_PATH_MAX . ' bytes long, printable and without blanks'
            );
        }
    }

    private static function checkSubject(string $subject): void
    {
        if ($subject === '') {
            return;
        }
        if (strlen($subject) > self::SUBJECT_MAX || !Handoff::fitsHeader($subject)) {
            throw new InvalidArgumentException(
                'a subject has at most ' . self::SUBJECT_MAX . ' printable ASCII characters and no blank at either end'
            );
        }
    }
}
