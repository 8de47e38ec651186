<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Exception;

/**
 * Something was sent to the client already, or an output buffer stands in the way: the answer cannot be handed off.
 */
final class HeadersSentException extends \RuntimeException implements HandoffException
{
}
