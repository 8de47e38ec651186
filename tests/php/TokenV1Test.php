<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Tests;

use Handoffd\Exception\InvalidArgumentException;
use Handoffd\Key;
use Handoffd\KeyState;
use Handoffd\TokenV1;
use PHPUnit\Framework\TestCase;

/**
 * @covers \Handoffd\TokenV1
 */
final class TokenV1Test extends TestCase
{
    /** run.sh says what this PHP is to have; a run without sodium that has it would prove nothing. */
    public function testThisIsThePhpThatTheRunIsMeantFor(): void
    {
        $wanted = getenv('HANDOFF_SODIUM');
        if ($wanted === false) {
            self::markTestSkipped('HANDOFF_SODIUM is not set: not started by run.sh');
        }
        self::assertSame($wanted === '1', function_exists('sodium_crypto_auth'));
    }

    /**
     * @dataProvider vectors
     *
     * @param array<string, mixed> $vector
     */
    public function testVector(array $vector, bool $useSodium): void
    {
        $key = new Key($vector['kid'], KeyState::Sign, hex2bin($vector['key']), ['*']);
        $token = (new TokenV1($useSodium))->sign(
            $key,
            $vector['exp'],
            $vector['binding'],
            $vector['socket_path'],
            $vector['subject'],
            hex2bin($vector['data'])
        );
        self::assertSame($vector['token'], $token);
    }

    /** @return iterable<string, array{array<string, mixed>, bool}> */
    public static function vectors(): iterable
    {
        $file = __DIR__ . '/../vectors/token-v1.json';
        $vectors = json_decode((string) file_get_contents($file), true, 512, JSON_THROW_ON_ERROR);
        foreach ($vectors['sign'] as $vector) {
            yield $vector['name'] => [$vector, true];
            yield $vector['name'] . ', by hash_hmac' => [$vector, false];
        }
    }

    /**
     * @dataProvider vectors
     *
     * @param array<string, mixed> $vector
     */
    public function testPae(array $vector): void
    {
        $pae = TokenV1::pae([
            'handoff-token-v1', $vector['kid'], (string) $vector['exp'], $vector['binding'], $vector['socket_path'],
            $vector['subject'], hex2bin($vector['digest']),
        ]);
        self::assertSame($vector['pae'], bin2hex($pae));
    }

    /** @dataProvider badExpiries */
    public function testExpiryOutOfRange(int $expires): void
    {
        $this->expectException(InvalidArgumentException::class);
        $key = new Key('k', KeyState::Sign, str_repeat('x', 32), ['*']);
        (new TokenV1())->sign($key, $expires, 'v1;b', '/s', '', '');
    }

    /** @return list<array{int}> */
    public static function badExpiries(): array
    {
        return [[0], [-1], [10_000_000_000]];
    }

    /** @dataProvider badLengths */
    public function testKeyThatIsNot32Bytes(int $length): void
    {
        $this->expectException(InvalidArgumentException::class);
        new Key('k', KeyState::Sign, str_repeat('x', $length), ['*']);
    }

    /** @return list<array{int}> */
    public static function badLengths(): array
    {
        return [[0], [31], [33], [64]];
    }
}
