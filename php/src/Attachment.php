<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

/**
 * Bytes that go to the daemon beside the JSON, with a name and a media type.
 */
final class Attachment
{
    /** @throws Exception\InvalidArgumentException name or type that a receiver could not use */
    public function __construct(
        public readonly string $name,
        public readonly string $type,
        public readonly string $bytes,
    ) {
        Validate::attachment($name, $type);
    }
}
