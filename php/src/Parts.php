<?php

// SPDX-License-Identifier: Apache-2.0

declare(strict_types=1);

namespace Handoffd;

use Handoffd\Exception\InvalidArgumentException;

/**
 * Data with attachments, the form "parts" of docs/protocol.md, section 1:
 *
 *     LE64(length of the JSON) | JSON object | bytes of the attachments, one after another
 *
 * The object's member "attachments" lists them as {"name", "type", "offset", "length"}; offsets count from the first
 * byte after the JSON.
 */
final class Parts
{
    public const MEMBER = 'attachments';

    /**
     * @param string           $json        a JSON object without the member "attachments"; '' stands for {}
     * @param list<Attachment> $attachments
     *
     * @throws InvalidArgumentException when $json is something else
     */
    public static function encode(string $json, array $attachments): string
    {
        $listed = [];
        $blobs = '';
        foreach ($attachments as $attachment) {
            $listed[] = [
                'name' => $attachment->name,
                'type' => $attachment->type,
                'offset' => strlen($blobs),
                'length' => strlen($attachment->bytes),
            ];
            $blobs .= $attachment->bytes;
        }
        $json = self::addMember($json === '' ? '{}' : $json, Json::encode($listed));

        return pack('P', strlen($json)) . $json . $blobs;
    }

    /** The application's JSON stays as it is, byte for byte: written anew, numbers could change. */
    private static function addMember(string $json, string $value): string
    {
        try {
            $object = json_decode($json, false, Json::DEPTH, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
        } catch (\JsonException $exception) {
            throw new InvalidArgumentException('with attachments the data is JSON: ' . $exception->getMessage());
        }
        if (!$object instanceof \stdClass) {
            throw new InvalidArgumentException('with attachments the data is a JSON object, not another JSON value');
        }
        $members = get_object_vars($object);
        if (array_key_exists(self::MEMBER, $members)) {
            throw new InvalidArgumentException('the data has a member "' . self::MEMBER . '" already');
        }
        $open = substr(rtrim($json, " \t\r\n"), 0, -1);

        return $open . ($members === [] ? '' : ',') . '"' . self::MEMBER . '":' . $value . '}';
    }
}
