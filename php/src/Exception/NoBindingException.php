<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Exception;

/**
 * The web server gave this request no binding: mod_socket_handoff is not enabled here.
 */
final class NoBindingException extends \RuntimeException implements HandoffException
{
}
