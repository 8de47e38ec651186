<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Exception;

/**
 * The key ring cannot be used. The message says where: "FILE:LINE: what is wrong" or "FILE: what is wrong".
 */
final class KeyRingException extends \RuntimeException implements HandoffException
{
}
