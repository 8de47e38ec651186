<?php

// SPDX-License-Identifier: Apache-2.0
//
// A receiver of the bare format in PHP with ext-sockets: php receiver.php SOCKET. It streams back what the application
// said. Written for the tests from the description of the format only.

declare(strict_types=1);

function receive(Socket $connection): ?array
{
    $message = ['name' => [], 'buffer_size' => 65536, 'controllen' => socket_cmsg_space(SOL_SOCKET, SCM_RIGHTS, 1)];
    if (socket_recvmsg($connection, $message, 0) <= 0) {
        return null;
    }
    $client = $message['control'][0]['data'][0] ?? null;
    $data = implode('', $message['iov']);
    while (($piece = socket_read($connection, 65536)) !== false && $piece !== '') {
        $data .= $piece;
    }
    return $client instanceof Socket ? [$data === "\0" ? '' : $data, $client] : null;
}

function send(Socket $client, string $text): void
{
    while ($text !== '') {
        $sent = socket_write($client, $text);
        if ($sent === false) {
            return;
        }
        $text = substr($text, $sent);
    }
}

$listener = socket_create(AF_UNIX, SOCK_STREAM, 0);
socket_bind($listener, $argv[1]);
chmod($argv[1], 0666);
socket_listen($listener, 64);
while ($connection = socket_accept($listener)) {
    [$data, $client] = receive($connection) ?? ['', null];
    socket_close($connection);
    if ($client !== null) {
        socket_set_block($client);
        send($client, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        send($client, "data: $data\n\ndata: [DONE]\n\n");
        socket_close($client);
    }
}
