<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Tests;

use Handoffd\Exception\KeyRingException;
use Handoffd\Key;
use Handoffd\KeyRing;
use Handoffd\KeyState;
use PHPUnit\Framework\TestCase;

/**
 * @covers \Handoffd\KeyRing
 * @covers \Handoffd\Key
 */
final class KeyRingTest extends TestCase
{
    use KeyRingFile;

    /** @dataProvider faultyLines */
    public function testFaultyLine(string $line, string $what): void
    {
        $file = $this->keyFile("# keys\n" . self::line('k0') . $line . "\n");
        try {
            KeyRing::load($file);
            self::fail('not refused');
        } catch (KeyRingException $exception) {
            self::assertStringStartsWith("$file:3: ", $exception->getMessage());
            self::assertStringContainsString($what, $exception->getMessage());
            self::assertStringNotContainsString(substr(base64_encode(self::secret()), 0, 8), $exception->getMessage());
        }
    }

    /** @return iterable<string, array{string, string}> */
    public static function faultyLines(): iterable
    {
        $key = base64_encode(self::secret());
        yield 'no path' => ["k1 sign $key", 'expected: kid state'];
        yield 'capital' => ["K1 sign $key *", 'the name of a key'];
        yield 'long kid' => [str_repeat('k', 17) . " sign $key *", 'the name of a key'];
        yield 'state' => ["k1 signs $key *", 'sign, verify or revoked'];
        yield 'short key' => ['k1 sign ' . base64_encode(str_repeat('x', 31)) . ' *', '32 bytes'];
        yield 'long key' => ['k1 sign ' . base64_encode(str_repeat('x', 33)) . ' *', '32 bytes'];
        yield 'no padding' => ['k1 sign ' . rtrim($key, '=') . ' *', 'padded base64'];
        yield 'not canonical' => ['k1 sign ' . substr($key, 0, -2) . 'd= *', 'padded base64'];
        yield 'relative path' => ["k1 sign $key run/x.sock", 'a socket path'];
        yield 'long path' => ["k1 sign $key /" . str_repeat('x', 107), 'a socket path'];
        yield 'carriage return' => ["k1 sign $key *\r", 'control bytes'];
        yield 'columns changed' => ["$key sign k1 *", 'the name of a key'];
        yield 'the same kid' => ["k0 verify $key *", 'line 2'];
    }

    public function testNoKeyForThePath(): void
    {
        $file = $this->keyFile(
            self::line('a', 'verify') . "\n" . self::line('b', 'revoked') . self::line('c', 'sign', '/run/x.sock')
        );
        $this->expectException(KeyRingException::class);
        $this->expectExceptionMessage(
            "$file: no key signs for /run/y.sock"
            . ' (line 1: a is in state verify; line 3: b is in state revoked; line 4: c is for other paths)'
        );
        KeyRing::load($file)->signingKey('/run/y.sock');
    }

    /** @dataProvider modes */
    public function testMode(int $mode, bool $safe): void
    {
        $file = $this->keyFile(self::line('k1'), $mode);
        if (!$safe) {
            $this->expectException(KeyRingException::class);
            $this->expectExceptionMessage(sprintf('%s: mode %04o is wider than 0640', $file, $mode));
        }
        self::assertSame('k1', KeyRing::load($file)->signingKey(self::SOCKET)->kid);
    }

    /** @return list<array{int, bool}> */
    public static function modes(): array
    {
        return [
            [0640, true], [0600, true], [0440, true], [0400, true],
            [0644, false], [0660, false], [0604, false], [0641, false], [0740, false], [04640, false],
        ];
    }

    public function testEmptyMissingAndNotAFile(): void
    {
        $link = tempnam(sys_get_temp_dir(), 'keys');
        $this->files[] = $link;
        unlink($link);
        symlink($this->keyFile(self::line('k1')), $link);
        $cases = [
            $this->keyFile("# nothing\n") => 'holds no key',
            $this->keyFile(str_repeat('#', 65537)) => 'larger than',
            '/nonexistent/keys' => 'does not exist',
            sys_get_temp_dir() => 'not a regular file',
            $link => 'not a regular file',
        ];
        foreach ($cases as $file => $what) {
            try {
                KeyRing::load($file);
                self::fail("$file: not refused");
            } catch (KeyRingException $exception) {
                self::assertStringStartsWith("$file: ", $exception->getMessage());
                self::assertStringContainsString($what, $exception->getMessage());
            }
        }
    }

    public function testOwner(): void
    {
        $file = $this->keyFile(self::line('k1'));
        if (!@chown($file, 64999)) {
            self::markTestSkipped('needs root to give a file away');
        }
        $this->expectException(KeyRingException::class);
        $this->expectExceptionMessage('but to uid 64999');
        KeyRing::load($file);
    }

    public function testKeyDoesNotShow(): void
    {
        $key = new Key('k1', KeyState::Sign, self::secret(), ['*']);
        $shown = print_r($key, true) . var_export($key, true) . print_r((array) $key, true);
        self::assertStringContainsString('k1', $shown);
        self::assertStringNotContainsString(substr(self::secret(), 0, 8), $shown);
        $this->expectException(\LogicException::class);
        serialize($key);
    }
}
