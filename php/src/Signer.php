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
     * @param string      $socketPath the daemon's socket, e.g. /run/handoffd/chat.sock
     * @param string      $data       the data's bytes exactly as they will be sent; '' when there is none
     * @param string      $subject    whom to count this for; '' when nobody in particular
     * @param string|null $binding    the request's binding; null takes $_SERVER['HANDOFF_BINDING']
     *
     * @throws InvalidArgumentException   socket path or subject that no verifier would accept
     * @throws NoBindingException         the module is not enabled for this request
     * @throws Exception\KeyRingException the key ring is faulty, or no key signs for this path
     */
    public function token(string $socketPath, string $data, string $subject = '', ?string $binding = null): string
    {
        Validate::socketPath($socketPath);
        Validate::subject($subject);
        $binding = self::checkBinding($binding ?? self::bindingOfRequest());
        $key = $this->keyRing()->signingKey($socketPath);

        return $this->token->sign($key, time() + $this->lifetime, $binding, $socketPath, $subject, $data);
    }

    /** The key ring, read again when the file is another one than before: a worker may live longer than a key. */
    private function keyRing(): KeyRing
    {
        if ($this->keyRing === null || !$this->keyRing->isCurrent()) {
            $this->keyRing = null;
            $this->keyRing = KeyRing::load($this->keyFile);
        }

        return $this->keyRing;
    }

    /**
     * What the module calls this request. Only the variable that the web server sets is asked: HTTP_HANDOFF_BINDING is
     * a request header, which a client could send, and REDIRECT_HANDOFF_BINDING is that of an earlier request.
     */
    private static function bindingOfRequest(): string
    {
        $binding = $_SERVER['HANDOFF_BINDING'] ?? '';
        if (is_string($binding) && $binding !== '') {
            return $binding;
        }
        throw new NoBindingException(
            'mod_socket_handoff is not enabled for this request: it has no HANDOFF_BINDING. ' . self::likelyCause()
        );
    }

    private static function likelyCause(): string
    {
        if (!isset($_SERVER['REQUEST_METHOD'])) {
            return PHP_SAPI === 'cli'
                ? 'PHP runs on the command line, where there is no client.'
                : '$_SERVER holds no request: see the setting variables_order.';
        }
        if (isset($_SERVER['REDIRECT_HANDOFF_BINDING'])) {
            return 'REDIRECT_HANDOFF_BINDING is that of the request before an internal redirect and does not count:'
                . ' enable the module for the place that the redirect leads to.';
        }
        if (isset($_SERVER['HTTP_HANDOFF_BINDING'])) {
            return 'The request header of this name does not count, since a client could send it: behind mod_proxy_http'
                . ' hand the header that Apache was configured to set to binding().';
        }

        return 'Is it loaded, and is SocketHandoffEnabled On in the Location or Directory of this URL?';
    }

    private static function checkBinding(string $binding): string
    {
        if (preg_match('/^v1;[\x21-\x7e]+$/D', $binding) !== 1 || strlen($binding) > self::BINDING_MAX) {
            throw new NoBindingException(
                'HANDOFF_BINDING is not a binding of version 1: do module and package belong together?'
            );
        }

        return $binding;
    }
}
