<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

/**
 * State of a key: signs; is still accepted by verifiers; is refused.
 */
enum KeyState: string
{
    case Sign = 'sign';
    case Verify = 'verify';
    case Revoked = 'revoked';
}
