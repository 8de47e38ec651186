<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

// For applications without Composer: loads the classes of this package on first use.
spl_autoload_register(static function (string $class): void {
    $prefix = 'Handoffd\\';
    if (!str_starts_with($class, $prefix)) {
        return;
    }
    $file = __DIR__ . '/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
    if (is_file($file)) {
        require $file;
    }
});
