<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Tests;

use Handoffd\Exception\InvalidArgumentException;
use Handoffd\Exception\KeyRingException;
use Handoffd\Exception\NoBindingException;
use Handoffd\Signer;
use PHPUnit\Framework\TestCase;

/**
 * @covers \Handoffd\Signer
 * @covers \Handoffd\KeyRing
 */
final class SignerTest extends TestCase
{
    use KeyRingFile;

    public function testToken(): void
    {
        $before = time();
        $token = (new Signer($this->keyFile(self::line('k1')), 10))->token(self::SOCKET, 'data', 'user-42');
        $exp = self::expiry($token);
        self::assertSame(self::expectedToken('k1', $exp, 'data', 'user-42'), $token);
        self::assertGreaterThanOrEqual($before + 10, (int) $exp);
        self::assertLessThanOrEqual(time() + 10, (int) $exp);
    }

    public function testBindingThatIsHandedOver(): void
    {
        unset($_SERVER['HANDOFF_BINDING']);
        $binding = 'v1;2001:db8::1;443;_____________________w';
        $token = (new Signer($this->keyFile(self::line('k1'))))->token(self::SOCKET, '', '', $binding);
        self::assertSame(self::expectedToken('k1', self::expiry($token), '', '', $binding), $token);
    }

    /**
     * @dataProvider requestsWithoutBinding
     *
     * @param array<string, string> $server
     */
    public function testNoBinding(array $server, string $hint): void
    {
        $_SERVER = $server;
        $this->expectException(NoBindingException::class);
        $this->expectExceptionMessageMatches(
            '/^mod_socket_handoff is not enabled for this request: .*' . preg_quote($hint, '/') . '/'
        );
        (new Signer($this->keyFile(self::line('k1'))))->token(self::SOCKET, '');
    }

    /** @return iterable<string, array{array<string, string>, string}> */
    public static function requestsWithoutBinding(): iterable
    {
        $get = ['REQUEST_METHOD' => 'GET'];
        yield 'module off' => [$get, 'SocketHandoffEnabled On'];
        yield 'empty' => [$get + ['HANDOFF_BINDING' => ''], 'SocketHandoffEnabled On'];
        yield 'redirect' => [$get + ['REDIRECT_HANDOFF_BINDING' => self::BINDING], 'internal redirect'];
        yield 'request header' => [$get + ['HTTP_HANDOFF_BINDING' => self::BINDING], 'a client could send it'];
        yield 'command line' => [[], 'command line'];
    }

    /** @dataProvider foreignBindings */
    public function testBindingOfAnotherForm(string $binding): void
    {
        $_SERVER['HANDOFF_BINDING'] = $binding;
        $this->expectException(NoBindingException::class);
        $this->expectExceptionMessage('not a binding of version 1');
        (new Signer($this->keyFile(self::line('k1'))))->token(self::SOCKET, '');
    }

    /** @return list<array{string}> */
    public static function foreignBindings(): array
    {
        return [['v2;a;1;x'], ['v1;'], ['v1;a b'], ["v1;a\n"], ['v1;' . str_repeat('a', 93)], [' v1;a;1;x']];
    }

    /** @dataProvider badLifetimes */
    public function testLifetime(int $lifetime): void
    {
        $this->expectException(InvalidArgumentException::class);
        new Signer('/nonexistent', $lifetime);
    }

    /** @return list<array{int}> */
    public static function badLifetimes(): array
    {
        return [[0], [-1], [61]];
    }

    public function testFirstSigningKeyForThePath(): void
    {
        $ring = "# rotated last week\n\n" . self::line('old', 'verify') . self::line('gone', 'revoked')
            . self::line('foreign', 'sign', '/run/handoffd/chat.sockx /run/handoffd/chat.soc')
            . self::line('mine', 'sign', '/run/x.sock ' . self::SOCKET) . self::line('later');
        $token = (new Signer($this->keyFile($ring)))->token(self::SOCKET, '');
        self::assertStringStartsWith('v1.mine.', $token);
    }

    public function testKeyRingIsReadAgainWhenItChanges(): void
    {
        $file = $this->keyFile(self::line('before'));
        $signer = new Signer($file);
        self::assertStringStartsWith('v1.before.', $signer->token(self::SOCKET, ''));
        $fresh = $this->keyFile(self::line('after'));
        rename($fresh, $file);
        touch($fresh); // tearDown() removes it
        self::assertStringStartsWith('v1.after.', $signer->token(self::SOCKET, ''));
        file_put_contents($file, 'nonsense');
        $this->expectException(KeyRingException::class);
        $signer->token(self::SOCKET, '');
    }

    public function testKeyRingIsNotTouchedWithoutBinding(): void
    {
        unset($_SERVER['HANDOFF_BINDING']);
        $this->expectException(NoBindingException::class);
        (new Signer('/nonexistent'))->token(self::SOCKET, '');
    }
}
