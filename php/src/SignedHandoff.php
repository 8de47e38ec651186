<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\HeadersSentException;
use Psr\Http\Message\ResponseFactoryInterface;
use Psr\Http\Message\ResponseInterface;

/**
 * A handoff that is signed: the headers and the body of the response that asks for it. The signature covers the body
 * byte for byte, and is good for this request and a minute at most: send it at once, as it is.
 */
final class SignedHandoff
{
    private const CONTROL_HEADERS = [
        'X-Socket-Handoff', 'X-Handoff-Token', 'X-Handoff-Subject', 'X-Handoff-Data', 'X-Handoff-Data-Source',
    ];

    /**
     * @internal made by Handoff::sign()
     *
     * @param array<string, non-empty-list<string>> $headers values by name
     * @param string                                $body    '' when the data is in a header
     */
    public function __construct(public readonly array $headers, public readonly string $body)
    {
    }

    /**
     * Emit it with header() and echo; see Handoff::send().
     *
     * @throws HeadersSentException output has left already, or a buffer cannot be removed
     */
    public function send(): void
    {
        self::checkNothingSent();
        self::discardOutput();
        foreach (self::CONTROL_HEADERS as $name) {
            header_remove($name);
        }
        foreach ($this->headers as $name => $values) {
            $replace = strcasecmp($name, 'Set-Cookie') !== 0;
            foreach ($values as $value) {
                header("$name: $value", $replace);
                $replace = false;
            }
        }
        echo $this->body;
        // Nothing may follow the body.
        ob_start(static fn (string $output): string => '');
    }

    /** The same as a PSR-7 response. The type of the factory is of psr/http-factory, which the application brings. */
    public function toResponse(ResponseFactoryInterface $factory): ResponseInterface
    {
        $response = $factory->createResponse();
        foreach ($this->headers as $name => $values) {
            $response = $response->withHeader($name, $values);
        }
        $stream = $response->getBody();
        for ($written = 0; $written < strlen($this->body);) {
            $written += $stream->write($written === 0 ? $this->body : substr($this->body, $written));
        }
        // An emitter may begin to read where the stream stands.
        if ($stream->isSeekable()) {
            $stream->rewind();
        }

        return $response;
    }

    /** @throws HeadersSentException when it is too late */
    public static function checkNothingSent(): void
    {
        if (headers_sent($file, $line)) {
            throw new HeadersSentException("the response has begun already, at $file:$line");
        }
    }

    /** Earlier output would mix with the data, and an output handler (compression) would change it. */
    private static function discardOutput(): void
    {
        while (ob_get_level() > 0) {
            if (!@ob_end_clean()) {
                $name = ob_get_status()['name'] ?? 'unknown';
                throw new HeadersSentException("an output buffer cannot be removed (its handler: $name)");
            }
        }
    }

    /**
     * What var_dump() and loggers see: neither token nor data.
     *
     * @return array<string, mixed>
     */
    public function __debugInfo(): array
    {
        return ['headers' => array_keys($this->headers), 'body' => strlen($this->body) . ' bytes'];
    }
}
