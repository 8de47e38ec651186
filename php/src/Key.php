<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

/**
 * One line of the key ring: a 32-byte key, its name, its state and the socket paths it signs for.
 */
final class Key
{
    public const LENGTH = 32;

    /**
     * The keys' bytes. Not in a property or a closure: var_export() and array casts show these whatever __debugInfo()
     * says.
     *
     * @var \WeakMap<self, string>|null
     */
    private static ?\WeakMap $secrets = null;

    /**
     * @param list<string> $paths socket paths; '*' stands for every path
     * @param int          $line  of the key ring file, 0 when it comes from elsewhere
     */
    public function __construct(
        public readonly string $kid,
        public readonly KeyState $state,
        #[\SensitiveParameter] string $secret,
        public readonly array $paths,
        public readonly int $line = 0,
    ) {
        if (strlen($secret) !== self::LENGTH) {
            throw new Exception\InvalidArgumentException('a key has ' . self::LENGTH . ' bytes');
        }
        self::$secrets ??= new \WeakMap();
        self::$secrets[$this] = $secret;
    }

    /** Whether this key's line names the socket path, byte for byte, or '*'. */
    public function allows(string $socketPath): bool
    {
        return in_array($socketPath, $this->paths, true) || in_array('*', $this->paths, true);
    }

    /** The key's bytes, for TokenV1 only. */
    public function secret(): string
    {
        return self::$secrets[$this];
    }

    /**
     * What var_dump() and loggers see: never the secret.
     *
     * @return array<string, mixed>
     */
    public function __debugInfo(): array
    {
        return ['kid' => $this->kid, 'state' => $this->state->value, 'paths' => $this->paths];
    }

    private function __clone()
    {
    }

    /** A key is not stored in sessions or caches. */
    public function __serialize(): array
    {
        throw new \LogicException('a key is not serialised');
    }
}
