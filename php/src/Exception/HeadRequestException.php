<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Exception;

/**
 * The data needs the response's body, and the response to a HEAD request has none.
 */
final class HeadRequestException extends \RuntimeException implements HandoffException
{
}
