<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Tests;

/**
 * For test cases: key ring files that are removed afterwards, and the token that the protocol prescribes.
 */
trait KeyRingFile
{
    protected const SOCKET = '/run/handoffd/chat.sock';
    protected const BINDING = 'v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw';

    /** @var list<string> */
    private array $files = [];
    /** @var array<mixed> */
    private array $server = [];

    protected function setUp(): void
    {
        $this->server = $_SERVER;
        $_SERVER['HANDOFF_BINDING'] = self::BINDING;
        $_SERVER['REQUEST_METHOD'] = 'POST';
    }

    protected function tearDown(): void
    {
        $_SERVER = $this->server;
        array_map('unlink', $this->files);
        $this->files = [];
    }

    protected static function secret(int $byte = 7): string
    {
        return str_repeat(chr($byte), 32);
    }

    protected static function line(string $kid, string $state = 'sign', string $paths = '*', int $byte = 7): string
    {
        return "$kid $state " . base64_encode(self::secret($byte)) . " $paths\n";
    }

    protected function keyFile(string $text, int $mode = 0640): string
    {
        $file = tempnam(sys_get_temp_dir(), 'keys');
        self::assertIsString($file);
        $this->files[] = $file;
        file_put_contents($file, $text);
        chmod($file, $mode);

        return $file;
    }

    /** What docs/protocol.md says, written once more without the package. */
    protected static function expectedToken(
        string $kid,
        string $exp,
        string $data,
        string $subject = '',
        string $binding = self::BINDING,
        ?string $secret = null,
    ): string {
        $message = pack('P', 7);
        $digest = hash('sha512', $data, true);
        foreach (['handoff-token-v1', $kid, $exp, $binding, self::SOCKET, $subject, $digest] as $piece) {
            $message .= pack('P', strlen($piece)) . $piece;
        }
        $mac = substr(hash_hmac('sha512', $message, $secret ?? self::secret(), true), 0, 32);

        return "v1.$kid.$exp." . rtrim(strtr(base64_encode($mac), '+/', '-_'), '=');
    }

    protected static function expiry(string $token): string
    {
        return explode('.', $token)[2];
    }
}
