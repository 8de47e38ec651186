<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

// What the tests need: the package, and what is there of the libraries it can work with (Composer's or Debian's).

require_once __DIR__ . '/../../php/src/autoload.php';
require_once __DIR__ . '/KeyRingFile.php';

$composer = __DIR__ . '/../../php/vendor/autoload.php';
if (is_file($composer)) {
    require_once $composer;
} else {
    foreach (['GuzzleHttp/Psr7', 'Symfony/Component/HttpFoundation'] as $library) {
        if (stream_resolve_include_path("$library/autoload.php") !== false) {
            require_once "$library/autoload.php";
        }
    }
}
