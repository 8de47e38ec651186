<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Tests;

use Handoffd\Exception\HeadRequestException;
use Handoffd\Exception\InvalidArgumentException;
use Handoffd\Exception\NoBindingException;
use Handoffd\Handoff;
use Handoffd\SignedHandoff;
use Handoffd\Signer;
use PHPUnit\Framework\TestCase;

/**
 * What sign() makes of the steps. That send() emits it is tested with a web server around it, in test_signer.py.
 *
 * @covers \Handoffd\Handoff
 * @covers \Handoffd\Parts
 * @covers \Handoffd\Attachment
 * @covers \Handoffd\Validate
 * @covers \Handoffd\SignedHandoff
 */
final class HandoffTest extends TestCase
{
    use KeyRingFile;

    private function handoff(): Handoff
    {
        return (new Handoff(new Signer($this->keyFile(self::line('k1')))))->to(self::SOCKET);
    }

    private static function assertSigned(SignedHandoff $signed, string $data, string $subject = ''): void
    {
        $token = $signed->headers['X-Handoff-Token'][0];
        self::assertSame(self::expectedToken('k1', self::expiry($token), $data, $subject), $token);
        self::assertSame([self::SOCKET], $signed->headers['X-Socket-Handoff']);
    }

    public function testArrayInAHeader(): void
    {
        $signed = $this->handoff()->data(['prompt' => 'Grüße', 'url' => 'a/b', 'n' => 1.0])->subject('user-42')->sign();
        $json = '{"prompt":"Gr\u00fc\u00dfe","url":"a/b","n":1.0}';
        self::assertSigned($signed, $json, 'user-42');
        self::assertSame([$json], $signed->headers['X-Handoff-Data']);
        self::assertSame(['user-42'], $signed->headers['X-Handoff-Subject']);
        self::assertArrayNotHasKey('X-Handoff-Data-Source', $signed->headers);
        self::assertSame('', $signed->body);
    }

    public function testNothingButTheSocket(): void
    {
        $signed = $this->handoff()->sign();
        self::assertSigned($signed, '');
        self::assertSame(['X-Socket-Handoff', 'X-Handoff-Token'], array_keys($signed->headers));
        self::assertSame('', $signed->body);
    }

    public function testEmptyArrayIsAnObject(): void
    {
        self::assertSame(['{}'], $this->handoff()->data([])->sign()->headers['X-Handoff-Data']);
    }

    /** @dataProvider dataByForm */
    public function testFormOfAString(string $data, bool $inHeader): void
    {
        $signed = $this->handoff()->data($data)->sign();
        self::assertSigned($signed, $data);
        self::assertSame($inHeader ? [$data] : null, $signed->headers['X-Handoff-Data'] ?? null);
        self::assertSame($inHeader ? null : ['body'], $signed->headers['X-Handoff-Data-Source'] ?? null);
        self::assertSame($inHeader ? '' : $data, $signed->body);
    }

    /** @return iterable<string, array{string, bool}> */
    public static function dataByForm(): iterable
    {
        yield 'short' => ['x', true];
        yield '0' => ['0', true];
        yield 'longest' => [str_repeat('a', 4096), true];
        yield 'longer' => [str_repeat('a', 4097), false];
        yield 'blank in front' => [' x', false];
        yield 'blank behind' => ['x ', false];
        yield 'line break' => ["a\nb", false];
        yield 'line break behind' => ["a\n", false];
        yield 'tab' => ["a\tb", false];
        yield 'UTF-8' => ['ü', false];
        yield 'NUL' => ["\0", false];
        yield 'binary' => [implode('', array_map('chr', range(0, 255))), false];
    }

    public function testDataThatIsNoJson(): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->expectExceptionMessage('Malformed UTF-8');
        $this->handoff()->data(['prompt' => "\xff"]);
    }

    public function testAttachments(): void
    {
        $signed = $this->handoff()->data(['prompt' => 'what is this?'])
            ->attach('photo.png', 'image/png', "\x89PNG\0\r\n")
            ->attach('empty', 'text/plain; charset=utf-8', '')
            ->attach('ü 2.txt', 'text/plain', 'two')
            ->sign();
        self::assertSigned($signed, $signed->body);
        self::assertSame(['parts'], $signed->headers['X-Handoff-Data-Source']);
        self::assertArrayNotHasKey('X-Handoff-Data', $signed->headers);

        $length = unpack('P', $signed->body)[1];
        self::assertSame([
            'prompt' => 'what is this?',
            'attachments' => [
                ['name' => 'photo.png', 'type' => 'image/png', 'offset' => 0, 'length' => 7],
                ['name' => 'empty', 'type' => 'text/plain; charset=utf-8', 'offset' => 7, 'length' => 0],
                ['name' => 'ü 2.txt', 'type' => 'text/plain', 'offset' => 7, 'length' => 3],
            ],
        ], json_decode(substr($signed->body, 8, $length), true, 512, JSON_THROW_ON_ERROR));
        self::assertSame("\x89PNG\0\r\ntwo", substr($signed->body, 8 + $length));
    }

    /** @dataProvider objects */
    public function testAttachmentsLeaveTheJsonAsItIs(string $data, string $expected): void
    {
        $body = $this->handoff()->data($data)->attach('a', 'text/plain', 'b')->sign()->body;
        $list = '"attachments":[{"name":"a","type":"text/plain","offset":0,"length":1}]}';
        self::assertSame($expected . $list . 'b', substr($body, 8));
        self::assertSame(strlen($expected . $list), unpack('P', $body)[1]);
    }

    /** @return list<array{string, string}> */
    public static function objects(): array
    {
        return [
            ['', '{'],
            ['{}', '{'],
            ["{ }\n", '{ '],
            ['{"n":12345678901234567890123,"e":{},"f":1.50}', '{"n":12345678901234567890123,"e":{},"f":1.50,'],
            ['{"":1}', '{"":1,'],
            ["{\"a\":[]\n}\r\n", "{\"a\":[]\n,"],
        ];
    }

    /** @dataProvider notObjects */
    public function testAttachmentsNeedAnObject(string $data, string $what): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->expectExceptionMessage($what);
        $this->handoff()->data($data)->attach('a', 'text/plain', 'b')->sign();
    }

    /** @return list<array{string, string}> */
    public static function notObjects(): array
    {
        return [
            ['[]', 'a JSON object'], ['"x"', 'a JSON object'], ['null', 'a JSON object'], ['{', 'Syntax error'],
            ["\xff", 'UTF-8'], ['{"attachments":null}', 'already'],
        ];
    }

    /** @dataProvider badAttachments */
    public function testBadAttachment(string $name, string $type): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->handoff()->attach($name, $type, '');
    }

    /** @return list<array{string, string}> */
    public static function badAttachments(): array
    {
        return [
            ['', 'a/b'], ['.', 'a/b'], ['..', 'a/b'], ['../x', 'a/b'], ['a\\b', 'a/b'], ["a\0", 'a/b'], ["a\n", 'a/b'],
            ["\xff", 'a/b'], [str_repeat('a', 256), 'a/b'],
            ['a', ''], ['a', 'text'], ['a', 'text/'], ['a', "text/plain\r\nX: y"], ['a', "text/plain; a=b\n"],
        ];
    }

    public function testAttachmentNamesAreUnique(): void
    {
        $handoff = $this->handoff()->attach('a', 'text/plain', '1');
        $this->expectException(InvalidArgumentException::class);
        $handoff->attach('a', 'text/plain', '2');
    }

    public function testHeadersTravel(): void
    {
        $signed = $this->handoff()->header('X-Foo', 'bar')->header('Set-Cookie', 'a=1')->header('set-cookie', 'b=2')
            ->header('X-Empty', '')->header('X-Byte', "caf\xe9")->sign();
        self::assertSame(['bar'], $signed->headers['X-Foo']);
        self::assertSame(['a=1', 'b=2'], $signed->headers['Set-Cookie']);
        self::assertSame([''], $signed->headers['X-Empty']);
        self::assertSame(["caf\xe9"], $signed->headers['X-Byte']);
        self::assertSigned($signed, '');
    }

    /** @dataProvider badHeaders */
    public function testBadHeader(string $name, string $value): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->handoff()->header($name, $value);
    }

    /** @return list<array{string, string}> */
    public static function badHeaders(): array
    {
        return [
            ['', 'x'], ['X Foo', 'x'], ['X-Foo:', 'x'], ["X-Foo\n", 'x'], ['X-Füü', 'x'],
            ['X-Foo', "a\r\nX-Socket-Handoff: /x"], ['X-Foo', "a\n"], ['X-Foo', "a\0b"], ['X-Foo', "a\x7f"],
            ['X-Foo', ' a'], ['X-Foo', 'a '], ['X-Foo', str_repeat('a', 8000)],
            ['X-Socket-Handoff', '/x'], ['x_socket_handoff', '/x'], ['X-Handoff-Token', 'v1'], ['X-Handoff_Foo', 'x'],
            ['Content-Length', '1'], ['Transfer-Encoding', 'chunked'], ['Connection', 'close'], ['ETag', '"x"'],
            ['Content-Encoding', 'gzip'], ['Status', '200'], ['Keep-Alive', 'x'], ['content_length', '1'],
        ];
    }

    /** @dataProvider badPaths */
    public function testBadPath(string $path): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->handoff()->to($path);
    }

    /** @return list<array{string}> */
    public static function badPaths(): array
    {
        return [[''], ['run/x.sock'], ['/'], ['/run/a b'], ["/run/a\n"], ["/run/\x7f"], ['/' . str_repeat('a', 107)]];
    }

    /** @dataProvider badSubjects */
    public function testBadSubject(string $subject): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->handoff()->subject($subject);
    }

    /** @return list<array{string}> */
    public static function badSubjects(): array
    {
        return [[' a'], ['a '], ["a\nb"], ["a\r\nX: y"], ["\t"], ['ü'], [str_repeat('a', 257)]];
    }

    public function testWhereTo(): void
    {
        $this->expectException(InvalidArgumentException::class);
        $this->expectExceptionMessage('to()');
        (new Handoff(new Signer('/nonexistent')))->data('x')->sign();
    }

    public function testStepsLeaveTheObjectAlone(): void
    {
        $shared = $this->handoff();
        $shared->data('x')->subject('y')->attach('a', 'b/c', 'd')->header('X-Foo', 'bar')->to('/z')->binding('v1;x');
        self::assertSigned($shared->sign(), '');
        self::assertSame(['X-Socket-Handoff', 'X-Handoff-Token'], array_keys($shared->sign()->headers));
    }

    public function testBinding(): void
    {
        unset($_SERVER['HANDOFF_BINDING']);
        $token = $this->handoff()->binding('v1;a;1;b')->sign()->headers['X-Handoff-Token'][0];
        self::assertSame(self::expectedToken('k1', self::expiry($token), '', '', 'v1;a;1;b'), $token);
        $this->expectException(NoBindingException::class);
        $this->handoff()->sign();
    }

    public function testHeadHasNoBody(): void
    {
        $_SERVER['REQUEST_METHOD'] = 'HEAD';
        self::assertSigned($this->handoff()->data('{"a":1}')->sign(), '{"a":1}');
        $this->expectException(HeadRequestException::class);
        $this->handoff()->data("a\nb")->sign();
    }

    public function testDumpShowsNeitherTokenNorData(): void
    {
        $signed = $this->handoff()->data("secret words\n")->sign();
        $dump = print_r($signed, true);
        self::assertStringContainsString('X-Handoff-Token', $dump);
        self::assertStringNotContainsString('v1.k1.', $dump);
        self::assertStringNotContainsString('secret words', $dump);
    }
}
