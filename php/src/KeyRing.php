<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\KeyRingException;

/**
 * Key ring file: one key a line,
 *
 *     kid state base64key socket-path...        (a path of * means every path)
 *
 * kid is 1-16 of [a-z0-9_-]; state is sign, verify or revoked; the key is standard base64 with padding of 32 bytes.
 * Blank lines and lines that begin with # are skipped. The file is regular, owned by root or the reading user, mode
 * 0640 or tighter. docs/protocol.md, section 2.
 */
final class KeyRing
{
    private const FILE_MAX = 65536;
    private const KEYS_MAX = 256;
    private const PATH_MAX = 107;
    /** Permission bits that 0640 does not have, set-id bits included. */
    private const MODE_FORBIDDEN = 07137;

    /** What of a file's status shows that it is another file, or the same with another content. */
    private const IDENTITY = ['dev' => 0, 'ino' => 0, 'size' => 0, 'mtime' => 0, 'ctime' => 0];

    /**
     * @param non-empty-list<Key> $keys     in file order
     * @param array<string, int>  $identity of the file that was read
     */
    private function __construct(
        private readonly string $file,
        private readonly array $keys,
        private readonly array $identity,
    ) {
    }

    /** @throws KeyRingException when the file cannot be read, is not safe, or holds a faulty line or no key */
    public static function load(string $file): self
    {
        $keys = [];
        [$content, $identity] = self::read($file);
        $lines = explode("\n", $content);
        foreach ($lines as $index => $line) {
            if ($line === '' || $line[0] === '#' || trim($line, " \t") === '') {
                continue;
            }
            $key = self::parse($line, $file, $index + 1);
            $before = $keys['kid ' . $key->kid] ?? null;
            if ($before !== null) {
                throw new KeyRingException("$file:$key->line: the kid was used before, on line $before->line");
            }
            $keys['kid ' . $key->kid] = $key;
            if (count($keys) > self::KEYS_MAX) {
                throw new KeyRingException("$file:$key->line: more than " . self::KEYS_MAX . ' keys');
            }
        }
        if ($keys === []) {
            throw new KeyRingException("$file: holds no key");
        }

        return new self($file, array_values($keys), $identity);
    }

    /**
     * The first key with state sign for this socket path.
     *
     * @throws KeyRingException when there is none
     */
    public function signingKey(string $socketPath): Key
    {
        foreach ($this->keys as $key) {
            if ($key->state === KeyState::Sign && $key->allows($socketPath)) {
                return $key;
            }
        }
        $why = array_map(static fn (Key $key): string => "line $key->line: $key->kid " . match (true) {
            !$key->allows($socketPath) => 'is for other paths',
            default => "is in state {$key->state->value}",
        }, $this->keys);
        throw new KeyRingException("{$this->file}: no key signs for $socketPath (" . implode('; ', $why) . ')');
    }

    /** Whether the file is still the one that was read. */
    public function isCurrent(): bool
    {
        clearstatcache(true, $this->file);
        $status = @lstat($this->file);

        return $status !== false && array_intersect_key($status, self::IDENTITY) === $this->identity;
    }

    private static function parse(#[\SensitiveParameter] string $line, string $file, int $number): Key
    {
        $words = preg_split('/[ \t]+/', $line, -1, PREG_SPLIT_NO_EMPTY);
        $fail = static fn (string $what): KeyRingException => new KeyRingException("$file:$number: $what");
        if (preg_match('/[^\t\x20-\x7e\x80-\xff]/', $line) === 1) {
            throw $fail('control bytes in the line');
        }
        if ($words === false || count($words) < 4) {
            throw $fail('expected: kid state base64key socket-path...');
        }
        [$kid, $state, $encoded] = $words;
        $paths = array_slice($words, 3);
        if (preg_match('/^[a-z0-9_-]{1,16}$/D', $kid) !== 1) {
            throw $fail('the name of a key is 1 to 16 of a-z, 0-9, _ and -');
        }
        $known = KeyState::tryFrom($state) ?? throw $fail('the state of a key is sign, verify or revoked');
        $secret = base64_decode($encoded, true);
        if ($secret === false || base64_encode($secret) !== $encoded || strlen($secret) !== Key::LENGTH) {
            throw $fail('the key is not padded base64 of ' . Key::LENGTH . ' bytes');
        }
        foreach ($paths as $path) {
            if ($path !== '*' && ($path[0] !== '/' || strlen($path) > self::PATH_MAX)) {
                throw $fail('a socket path is absolute and at most ' . self::PATH_MAX . ' bytes long, or *');
            }
        }

        return new Key($kid, $known, $secret, $paths, $number);
    }

    /** @return array{string, array<string, int>} content and identity */
    private static function read(string $file): array
    {
        // PHP has no O_NOFOLLOW: look at the name first, open, and make sure that it is the same file.
        clearstatcache(true, $file);
        $named = @lstat($file);
        if ($named === false) {
            throw new KeyRingException("$file: does not exist or may not be reached");
        }
        if (($named['mode'] & 0170000) !== 0100000) {
            throw new KeyRingException("$file: is not a regular file");
        }
        $stream = @fopen($file, 'rb');
        if ($stream === false) {
            throw new KeyRingException("$file: may not be read by this user, uid " . self::effectiveUser());
        }
        try {
            $opened = fstat($stream);
            if ($opened === false || $opened['ino'] !== $named['ino'] || $opened['dev'] !== $named['dev']) {
                throw new KeyRingException("$file: was replaced while it was opened");
            }
            self::checkSafe($file, $opened);
            $content = stream_get_contents($stream, self::FILE_MAX + 1);
        } finally {
            fclose($stream);
        }
        if ($content === false || strlen($content) > self::FILE_MAX) {
            throw new KeyRingException("$file: cannot be read or is larger than " . self::FILE_MAX . ' bytes');
        }

        return [$content, array_intersect_key($opened, self::IDENTITY)];
    }

    /** @param array<int|string, int> $status of the open file */
    private static function checkSafe(string $file, array $status): void
    {
        if (($status['mode'] & self::MODE_FORBIDDEN) !== 0) {
            throw new KeyRingException(sprintf('%s: mode %04o is wider than 0640', $file, $status['mode'] & 07777));
        }
        if ($status['uid'] !== 0 && $status['uid'] !== self::effectiveUser()) {
            throw new KeyRingException(
                "$file: belongs neither to root nor to the user who reads it (uid " . self::effectiveUser()
                . "), but to uid {$status['uid']}"
            );
        }
    }

    /** Our effective uid, also where ext-posix is missing: whom a new file belongs to. */
    private static function effectiveUser(): int
    {
        if (function_exists('posix_geteuid')) {
            return posix_geteuid();
        }
        $probe = tmpfile();
        $status = $probe === false ? false : fstat($probe);

        return $status === false ? -1 : $status['uid'];
    }
}
