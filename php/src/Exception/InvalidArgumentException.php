<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd\Exception;

/**
 * An argument that no verifier would accept: socket path, subject, lifetime.
 */
final class InvalidArgumentException extends \InvalidArgumentException implements HandoffException
{
}
