<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Exception;

/**
 * Everything this package throws. No message ever holds key material, a token or the data.
 */
interface HandoffException extends \Throwable
{
}
