<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\HeadRequestException;
use Handoffd\Exception\HeadersSentException;
use Handoffd\Exception\InvalidArgumentException;
use Psr\Http\Message\ResponseFactoryInterface;
use Psr\Http\Message\ResponseInterface;

/**
 * Hands this request's client to a daemon: the signed control headers of docs/protocol.md, section 1, which
 * mod_socket_handoff takes out of the response and acts on.
 *
 *     (new Handoff($signer))->to('/run/handoffd/chat.sock')->data(['prompt' => $prompt])->subject('user-42')->send();
 *
 * Each step returns a changed copy, so an object without any may be shared by all requests of an application. A step
 * throws when what it is given would be refused later. The end is one of send(), for a script that answers by itself;
 * toResponse(), for PSR-7 applications; sign(), for everything else. When the end throws, nothing was sent or set and
 * the application may answer in another way.
 */
final class Handoff
{
    /** Bytes. Longer data goes into the body: php-fpm's header lines reach Apache only up to 8 KiB. */
    public const HEADER_DATA_MAX = 4096;

    private string $socketPath = '';
    private string $data = '';
    private string $subject = '';
    private ?string $binding = null;
    /** @var list<Attachment> */
    private array $attachments = [];
    /** @var array<string, non-empty-list<string>> */
    private array $headers = [];

    public function __construct(private readonly Signer $signer)
    {
    }

    /**
     * @param string $socketPath the daemon's socket, e.g. /run/handoffd/chat.sock
     *
     * @throws InvalidArgumentException
     */
    public function to(string $socketPath): self
    {
        Validate::socketPath($socketPath);
        $copy = clone $this;
        $copy->socketPath = $socketPath;

        return $copy;
    }

    /**
     * What the daemon gets: a string as it is (normally JSON; any bytes will do), something else written as JSON. An
     * empty array is an empty object.
     *
     * @param array<mixed>|\JsonSerializable|string $data
     *
     * @throws InvalidArgumentException when it cannot be written as JSON
     */
    public function data(array|\JsonSerializable|string $data): self
    {
        $copy = clone $this;
        $copy->data = $data === [] ? '{}' : (is_string($data) ? $data : Json::encode($data));

        return $copy;
    }

    /**
     * @param string $subject whom limits, logs and accounting count this for; '' for nobody in particular
     *
     * @throws InvalidArgumentException
     */
    public function subject(string $subject): self
    {
        Validate::subject($subject);
        $copy = clone $this;
        $copy->subject = $subject;

        return $copy;
    }

    /**
     * Send bytes beside the data, which must then be a JSON object (or nothing): see Parts for the form.
     *
     * @param string $name for the receiver, once each; no path
     * @param string $type media type, e.g. image/png
     *
     * @throws InvalidArgumentException
     */
    public function attach(string $name, string $type, string $bytes): self
    {
        $copy = clone $this;
        $copy->attachments[] = new Attachment($name, $type, $bytes);
        if (count(array_unique(array_column($copy->attachments, 'name'))) !== count($copy->attachments)) {
            throw new InvalidArgumentException("a second attachment named $name");
        }

        return $copy;
    }

    /**
     * A header that travels with the handoff and that the daemon sends to the client. A name given twice is sent
     * twice. What the script set with header() under this name is replaced, but for cookies, which are added.
     *
     * @throws InvalidArgumentException name or value that no server would send, or that would not travel
     */
    public function header(string $name, string $value): self
    {
        Validate::header($name, $value);
        $copy = clone $this;
        foreach (array_keys($copy->headers) as $known) {
            $name = strcasecmp($known, $name) === 0 ? $known : $name;
        }
        $copy->headers[$name][] = $value;

        return $copy;
    }

    /**
     * The request's binding, where it does not come in $_SERVER['HANDOFF_BINDING']: in an application behind
     * mod_proxy_http that was configured to get it as a request header. Give nothing here that a client could set.
     */
    public function binding(string $binding): self
    {
        $copy = clone $this;
        $copy->binding = $binding;

        return $copy;
    }

    /**
     * Everything that the response needs, signed: for applications that have a way of their own to send it.
     *
     * @throws InvalidArgumentException      no to(), or data that does not go with attachments
     * @throws HeadRequestException          the data needs a body, which a response to HEAD does not have
     * @throws Exception\NoBindingException  the module is not enabled for this request
     * @throws Exception\KeyRingException    the key ring is faulty, or no key signs for this path
     */
    public function sign(): SignedHandoff
    {
        if ($this->socketPath === '') {
            throw new InvalidArgumentException('where to? Call to() with the daemon\'s socket path first');
        }
        $parts = $this->attachments !== [];
        $data = $parts ? Parts::encode($this->data, $this->attachments) : $this->data;
        $inHeader = !$parts && strlen($data) <= self::HEADER_DATA_MAX && Validate::fitsHeader($data);
        $inBody = !$inHeader && $data !== '';
        if ($inBody && ($_SERVER['REQUEST_METHOD'] ?? '') === 'HEAD') {
            throw new HeadRequestException(
                'the response to a HEAD request has no body, and this data does not fit a header: answer it yourself'
            );
        }
        $token = $this->signer->token($this->socketPath, $data, $this->subject, $this->binding);
        $control = array_filter([
            'X-Socket-Handoff' => $this->socketPath,
            'X-Handoff-Token' => $token,
            'X-Handoff-Subject' => $this->subject,
            'X-Handoff-Data' => $inHeader ? $data : '',
            'X-Handoff-Data-Source' => $inBody ? ($parts ? 'parts' : 'body') : '',
        ], static fn (string $value): bool => $value !== '');
        $headers = $this->headers + array_map(static fn (string $value): array => [$value], $control);

        return new SignedHandoff($headers, $inBody ? $data : '');
    }

    /**
     * Sign and emit everything; the script should end right after. Whatever it printed before or prints later is
     * thrown away. Other headers it set (cookies, CORS) reach the client with the daemon's answer; set them before.
     *
     * The arguments are short for to(), data() and subject().
     *
     * @param array<mixed>|\JsonSerializable|string|null $data
     *
     * @throws HeadersSentException output has left already, or a buffer cannot be removed
     * @throws Exception\HandoffException all that sign() throws
     */
    public function send(
        ?string $socketPath = null,
        array|\JsonSerializable|string|null $data = null,
        ?string $subject = null,
    ): void {
        $handoff = $socketPath === null ? $this : $this->to($socketPath);
        $handoff = $data === null ? $handoff : $handoff->data($data);
        $handoff = $subject === null ? $handoff : $handoff->subject($subject);
        SignedHandoff::checkNothingSent();
        $handoff->sign()->send();
    }

    /**
     * The response to return from a PSR-7 application; what is added to it later (cookies, CORS) travels too. Nothing
     * may change its body.
     *
     * @throws Exception\HandoffException all that sign() throws
     */
    public function toResponse(ResponseFactoryInterface $factory): ResponseInterface
    {
        return $this->sign()->toResponse($factory);
    }
}
