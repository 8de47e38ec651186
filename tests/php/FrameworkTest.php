<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Tests;

use GuzzleHttp\Psr7\HttpFactory;
use Handoffd\Handoff;
use Handoffd\Signer;
use PHPUnit\Framework\TestCase;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;

/**
 * The signed bytes survive other people's response objects.
 *
 * @covers \Handoffd\SignedHandoff
 */
final class FrameworkTest extends TestCase
{
    use KeyRingFile;

    private function handoff(string $data): Handoff
    {
        return (new Handoff(new Signer($this->keyFile(self::line('k1')))))->to(self::SOCKET)->data($data)
            ->header('Set-Cookie', 'a=1')->header('Set-Cookie', 'b=2')->header('X-Foo', 'bar');
    }

    /** @dataProvider bodies */
    public function testPsr7(string $data, bool $inBody): void
    {
        if (!class_exists(HttpFactory::class)) {
            self::markTestSkipped('guzzlehttp/psr7 is not installed (Debian: php-guzzlehttp-psr7)');
        }
        $response = $this->handoff($data)->toResponse(new HttpFactory());
        self::assertSame(200, $response->getStatusCode());
        self::assertSame($inBody ? $data : '', $response->getBody()->getContents());
        self::assertSame($inBody ? $data : '', (string) $response->getBody());
        self::assertSame($inBody ? 'body' : '', $response->getHeaderLine('X-Handoff-Data-Source'));
        self::assertSame($inBody ? '' : $data, $response->getHeaderLine('X-Handoff-Data'));
        self::assertSame(['a=1', 'b=2'], $response->getHeader('set-cookie'));
        self::assertSame(['bar'], $response->getHeader('X-Foo'));
        $token = $response->getHeaderLine('X-Handoff-Token');
        self::assertSame(self::expectedToken('k1', self::expiry($token), $data), $token);
    }

    /**
     * Laravel's Response is of this class too.
     *
     * @dataProvider bodies
     */
    public function testSymfony(string $data, bool $inBody): void
    {
        if (!class_exists(Response::class)) {
            self::markTestSkipped('symfony/http-foundation is not installed (Debian: php-symfony-http-foundation)');
        }
        $signed = $this->handoff($data)->sign();
        $response = new Response($signed->body, 200, $signed->headers);
        $response->prepare(Request::create('/chat', 'POST'));
        self::assertSame($inBody ? $data : '', $response->getContent());
        self::assertSame([self::SOCKET], $response->headers->all('X-Socket-Handoff'));
        self::assertSame($inBody ? [] : [$data], $response->headers->all('X-Handoff-Data'));
        self::assertSame($inBody ? ['body'] : [], $response->headers->all('X-Handoff-Data-Source'));
        self::assertCount(2, $response->headers->getCookies());
        $token = $response->headers->get('X-Handoff-Token');
        self::assertSame(self::expectedToken('k1', self::expiry($token), $data), $token);
    }

    /** @return iterable<string, array{string, bool}> */
    public static function bodies(): iterable
    {
        yield 'header' => ['{"prompt":"a, b"}', false];
        yield 'body' => ["\0\r\n" . str_repeat('ü', 300000), true];
    }
}
