"""Small files that ask for much."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def encode(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def tiff(size, compression, data, **tags):
    """A TIFF of one part, whose claims are `tags`."""
    parts = dict(tile_at=324, tile_bytes=325, tile_width=322, tile_length=323)
    parts |= dict(at=273, bytes=279, rows=278, photometric=262, samples=277, bits=258)
    values = {256: size[0], 257: size[1], 258: 8, 259: compression, 262: 1, 277: 1}
    values |= {parts[name]: value for name, value in tags.items()}
    start = 8 + 2 + 12 * len(values) + 4
    for tag in (273, 324):
        if tag in values:
            values[tag] = start
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, values[tag]) for tag in sorted(values))
    return b'II*\0' + struct.pack('<IH', 8, len(values)) + entries + bytes(4) + data


def tiled(compression, data, width, length):
    return tiff(
        (16, 16), compression, data, tile_at=0, tile_bytes=len(data), tile_width=width,
        tile_length=length,
    )  # fmt: skip


def webp(width, height):
    """An animation whose one frame is 8 x 8."""
    frame = encode(Image.new('RGBA', (8, 8), (1, 2, 3, 4)), 'WEBP', lossless=True)
    frame = frame[frame.index(b'VP8L') :]
    sides = b''.join((side - 1).to_bytes(3, 'little') for side in (0 + 1, 0 + 1, 8, 8, 101))
    frame = sides + b'\0' + frame
    canvas = b''.join((side - 1).to_bytes(3, 'little') for side in (width, height))
    body = b'WEBPVP8X' + struct.pack('<I', 10) + b'\x12\0\0\0' + canvas
    body += b'ANIM' + struct.pack('<I', 6) + bytes(6)
    body += b'ANMF' + struct.pack('<I', len(frame)) + frame
    return b'RIFF' + struct.pack('<I', len(body)) + body


def gif(screen, frame):
    head = b'GIF89a' + struct.pack('<HHBBB', *screen, 0x80, 0, 0) + b'\0\0\0\xff\xff\xff'
    control = b'!\xf9\x04\x09\0\0\0\0'
    return head + control + b',' + struct.pack('<HHHHB', 0, 0, *frame, 0) + b'\x02\x02L\x01\0;'


def part(kind, data):
    """A chunk of a PNG."""
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(chunk, size=(16, 16)):
    def part(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    head = part(b'IHDR', struct.pack('>IIBBBBB', *size, 8, 2, 0, 0, 0))
    more = part(chunk, b'a\0\0' + zlib.compress(bytes(2**28), 9)) if chunk else b''
    rows = part(b'IDAT', zlib.compress(bytes(49 * 16)))
    return b'\x89PNG\r\n\x1a\n' + head + more + rows + part(b'IEND', b'')


def bmp(width, height):
    """Run-length rows: one command leads 255 rows up."""
    data = bytes([0, 2, 255, 255]) * 4
    head = struct.pack('<IiiHHIIiiII', 40, width, height, 1, 8, 1, len(data), 0, 0, 2, 0)
    return b'BM' + struct.pack('<IHHI', 62 + len(data), 0, 0, 62) + head + bytes(8) + data


def scans(count):
    """A progressive JPEG whose last scan is there that often."""
    data = encode(Image.new('L', (64, 64), 7), 'JPEG', progressive=True)
    start, end = data.rindex(b'\xff\xda'), data.rindex(b'\xff\xd9')
    return data[:start] + data[start:end] * count + data[end:]


def jpeg2000(size, tile, *, said=None):
    """A JP2 whose codestream claims a size and one of tiles; the box around it may say another."""
    data = bytearray(encode(Image.new('RGB', (64, 64), 'red'), 'JPEG2000', num_resolutions=2))
    start, box = data.index(b'\xff\x4f\xff\x51'), data.index(b'ihdr')
    struct.pack_into('>II', data, start + 8, *size)
    struct.pack_into('>II', data, start + 24, *tile)
    struct.pack_into('>II', data, box + 4, *reversed(said or size))
    return bytes(data)


def resized_heif(form, side, said):
    """A HEIF or AVIF of a square whose property says another size."""
    data = bytearray(encode(Image.new('RGB', (side, side), 'red'), form))
    at = data.index(b'ispe')
    struct.pack_into('>II', data, at + 8, said, said)
    return bytes(data)
