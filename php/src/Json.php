<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\InvalidArgumentException;

/**
 * How data given as values is written: in ASCII, so that it may travel in a header.
 *
 * @internal
 */
final class Json
{
    public const DEPTH = 512;

    /**
     * @param array<mixed>|\JsonSerializable $value
     *
     * @throws InvalidArgumentException when it cannot be written as JSON
     */
    public static function encode(array|\JsonSerializable $value): string
    {
        $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION;
        try {
            return json_encode($value, $flags, self::DEPTH);
        } catch (\JsonException $exception) {
            throw new InvalidArgumentException('the data cannot be written as JSON: ' . $exception->getMessage());
        }
    }
}
