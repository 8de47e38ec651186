<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

/**
 * Token v1, "v1.<kid>.<exp>.<mac>": an HMAC over everything that decides a handoff.
 *
 *     mac = crypto_auth(PAE("handoff-token-v1", kid, exp, binding, socket path, subject, SHA-512 of the data), key)
 *
 * crypto_auth is libsodium's HMAC-SHA-512 truncated to 32 bytes. docs/protocol.md, section 2.
 */
final class TokenV1
{
    private const CONTEXT = 'handoff-token-v1';

    private readonly bool $sodium;

    /** @param bool $useSodium false computes with hash_hmac() even where ext-sodium is loaded; the result is the same */
    public function __construct(bool $useSodium = true)
    {
        $this->sodium = $useSodium && function_exists('sodium_crypto_auth');
    }

    /**
     * @param int    $expires unix seconds; at most ten digits
     * @param string $data    the data's bytes as they will be sent
     *
     * @throws Exception\InvalidArgumentException when $expires is out of range
     */
    public function sign(
        Key $key,
        int $expires,
        string $binding,
        string $socketPath,
        string $subject,
        string $data,
    ): string {
        if ($expires < 1 || $expires > 9_999_999_999) {
            throw new Exception\InvalidArgumentException('expiry is not a unix time of at most ten digits');
        }
        $digest = hash('sha512', $data, true);
        $pieces = [self::CONTEXT, $key->kid, (string) $expires, $binding, $socketPath, $subject, $digest];
        $mac = $this->mac(self::pae($pieces), $key->secret());

        return "v1.{$key->kid}.{$expires}." . rtrim(strtr(base64_encode($mac), '+/', '-_'), '=');
    }

    /**
     * PASETO's pre-authentication encoding: the number of pieces, then each piece after its length, as 64-bit little
     * endian integers. No two lists of pieces encode to the same bytes.
     *
     * @param list<string> $pieces
     */
    public static function pae(array $pieces): string
    {
        $encoded = pack('P', count($pieces));
        foreach ($pieces as $piece) {
            $encoded .= pack('P', strlen($piece)) . $piece;
        }

        return $encoded;
    }

    private function mac(string $message, #[\SensitiveParameter] string $secret): string
    {
        if ($this->sodium) {
            return sodium_crypto_auth($message, $secret);
        }

        // Not hash_hmac('sha512/256'): that is a function of its own, not SHA-512 cut short.
        return substr(hash_hmac('sha512', $message, $secret, true), 0, 32);
    }
}
