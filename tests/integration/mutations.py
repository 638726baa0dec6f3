"""Random changes of files, as damaged disks, broken downloads or attackers could make them."""

import struct
import zlib
from random import Random

# Cells of tables: invalid names and numbers of classes, and texts that look like valid numbers
CELLS = (
    *("", " ", "-1", "256", "1e3", "0x10", "nan", "9" * 5000, "1.0", "true", "\u0663", "\uff11"),
    *(
        '"',
        '""',
        "'",
        ",",
        ";",
        "\t",
        "=1+1",
        "\x1b[31mred",
        "\u202ered",
        "a\u2028b",
        "../x",
        "a" * 300,
    ),
    *("\ufeff", "\0", "unknown", "[]", "{}", "null", "1_0", "+5", " 7 "),
)
LARGE = (0, 1, 2, 7, 255, 256, 0x7FFF, 0xFFFF, 100_000, 0x7FFFFFFF, 0xFFFFFFFF)


def mutate(content, kind, seed):
    """Changes the content of a file.

    Args:
        content: content of the file.
        kind: format of the file. If `STRUCTURED` contains the format, some changes fit the
            structure of the format. Otherwise, only arbitrary bytes change.
        seed: seed of the change.

    Returns:
        The changed content, and True if the checksums in the file fit the changed content. Only an
        attacker makes such changes.
    """
    random = Random(seed)
    changes = [*BYTES, *STRUCTURED.get(kind, ()) * 3]
    changed = content
    while changed == content:
        change = random.choice(changes)
        changed = change(content, random)
    return changed, change in FITTING


def _range(content, random):
    """Returns the start and the end of a random range of bytes. Most ranges are short."""
    start = random.randrange(len(content))
    return start, min(len(content), start + random.choice((1, 2, 4, 16, 100, len(content))))


def flip_bits(content, random):
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 8, 50))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def flip_bits_of_header(content, random):
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2))):
        changed[random.randrange(min(160, len(changed)))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(content, random):
    return content[: random.choice((0, 1, len(content) - 1, random.randrange(len(content))))]


def overwrite(content, random):
    start, end = _range(content, random)
    filling = random.choice((b"\0", b"\xff", random.randbytes(1)))
    return content[:start] + filling * (end - start) + content[end:]


def duplicate(content, random):
    start, end = _range(content, random)
    return content[:end] + content[start:]


def remove(content, random):
    start, end = _range(content, random)
    return content[:start] + content[end:]


def insert(content, random):
    start, _ = _range(content, random)
    return content[:start] + random.randbytes(random.choice((1, 2, 7, 300))) + content[start:]


def swap(content, random):
    a, b, c, d = sorted(random.randrange(len(content) + 1) for _ in range(4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


BYTES = (flip_bits, flip_bits_of_header, truncate, overwrite, duplicate, remove, insert, swap)


def _reordered(parts, random):
    """Removes a part, repeats a part, or swaps two parts."""
    parts = list(parts)
    one, other = random.randrange(len(parts)), random.randrange(len(parts))
    action = random.randrange(3)
    if action == 0:
        del parts[one]
    elif action == 1:
        parts.insert(other, parts[one])
    else:
        parts[one], parts[other] = parts[other], parts[one]
    return b"".join(parts)


# PNG: chunks of length, name, data and checksum


def png_chunk(name, data):
    """Returns a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_chunks(content):
    start = 8
    while start < len(content):
        length = int.from_bytes(content[start : start + 4])
        yield content[start + 4 : start + 8], content[start + 8 : start + 8 + length]
        start += 12 + length


def reorder_png(content, random):
    return content[:8] + _reordered([png_chunk(*c) for c in _png_chunks(content)], random)


def change_png_chunk(content, random):
    """Changes a chunk, and writes the checksum that fits it."""
    chunks = list(_png_chunks(content))
    place = random.randrange(len(chunks))
    name, data = chunks[place]
    chunks[place] = name, random.choice(BYTES)(data, random) if data else random.randbytes(3)
    return content[:8] + b"".join(png_chunk(*c) for c in chunks)


def change_png_header(content, random):
    """Changes a field of the header, and writes the checksum that fits it."""
    (name, header), *rest = _png_chunks(content)
    fields = list(struct.unpack(">IIBBBBB", header))
    place = random.randrange(len(fields))
    fields[place] = random.choice(
        (fields[0] - 1, fields[1] * 2, *LARGE) if place < 2 else (*range(9), 16, 255)
    )
    header = struct.pack(">IIBBBBB", *fields)
    return content[:8] + b"".join(png_chunk(*c) for c in ((name, header), *rest))


def insert_png_chunk(content, random):
    chunks = list(_png_chunks(content))
    name = random.choice((b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"zTXt", b"acTL", b"fdAT", b"eXIf"))
    data = random.choice(
        (b"", bytes(6), random.randbytes(30), b"x\0\0" + zlib.compress(bytes(10**7)))
    )
    chunks.insert(random.randrange(1, len(chunks) + 1), (name, data))
    return content[:8] + b"".join(png_chunk(*c) for c in chunks)


# JPEG: each segment consists of a marker, a length and data. The compressed pixels are at the end.


def _jpeg_segments(content):
    start = 2
    while start < len(content):
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        if content[start + 1] == 0xDA:
            end = len(content)
        yield content[start:end]
        start = end


def reorder_jpeg(content, random):
    return content[:2] + _reordered(_jpeg_segments(content), random)


def change_jpeg_segment(content, random):
    segments = list(_jpeg_segments(content))
    place = random.randrange(len(segments))
    head, data = segments[place][:4], segments[place][4:]
    segments[place] = head + flip_bits_of_header(data, random)
    return content[:2] + b"".join(segments)


def change_jpeg_header(content, random):
    """Changes the height, the width, or another byte of the frame header."""
    start = next(
        content.find(bytes((0xFF, kind))) for kind in (0xC0, 0xC2) if bytes((0xFF, kind)) in content
    )
    changed = bytearray(content)
    if random.random() < 0.5:
        place = start + random.choice((5, 7))
        size = int.from_bytes(changed[place : place + 2])
        value = random.choice((0, 1, size - 1, size - 8, size + 1, size * 2, 0x3FFF, 0xFFFF))
        changed[place : place + 2] = (value & 0xFFFF).to_bytes(2)
    else:
        changed[start + random.randrange(4, 19)] = random.choice(
            (0, 1, 2, 3, 4, 17, 18, 33, 34, 255)
        )
    return bytes(changed)


# TIFF: each tag has 12 bytes, which are number, type, count and value.


def change_tiff_tag(content, random):
    start = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[start : start + 2], "little")
    tag = start + 2 + 12 * random.randrange(count)
    changed = bytearray(content)
    place, size = random.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 4), (8, 4)))
    value = random.choice((*LARGE, *range(300))) % 256**size
    changed[tag + place : tag + place + size] = value.to_bytes(size, "little")
    return bytes(changed)


# ZIP: local headers before the files, the list of files, and the end of the list

_ZIP_FIELDS = {  # offset and size of the fields of each record
    b"PK\3\4": [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 1)],
    b"PK\1\2": [
        *((4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2)),
        *((34, 2), (38, 4), (42, 4), (46, 1), (47, 1)),
    ],
    b"PK\5\6": [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)],
}


def change_zip_field(content, random):
    record, fields = random.choice(list(_ZIP_FIELDS.items()))
    places = [i for i in range(len(content)) if content.startswith(record, i)]
    start, (offset, size) = random.choice(places), random.choice(fields)
    changed = bytearray(content)
    place = start + offset
    old = int.from_bytes(changed[place : place + size], "little")
    value = random.choice((old + 1, old - 1, old * 2, *LARGE, random.getrandbits(8 * size)))
    changed[place : place + size] = (value % 256**size).to_bytes(size, "little")
    return bytes(changed)


# Tables and other texts


def change_cell(content, random):
    rows = [row.split(",") for row in content.decode().split("\n")]
    row = random.choice(rows)
    row[random.randrange(len(row))] = random.choice(CELLS)
    return "\n".join(map(",".join, rows)).encode()


def reorder_rows(content, random):
    return _reordered(content.splitlines(keepends=True), random)


def reorder_cells(content, random):
    rows = [row.split(",") for row in content.decode().split("\n")]
    place = random.randrange(len(rows[0]))
    other = random.choice(rows)
    for row in random.choice((rows, [other])):
        if place < len(row):
            row.insert(random.randrange(len(row) + 1), row.pop(place) * random.randrange(3))
    return "\n".join(map(",".join, rows)).encode()


def change_encoding(content, random):
    text = content.decode()
    return random.choice(
        (
            text.encode("utf-16"),
            text.encode("utf-16-be"),
            text.encode("utf-8-sig"),
            text.replace("\n", "\r").encode(),
            text.replace(",", random.choice(";\t|: ")).encode(),
            f"sep=;\n{text}".encode(),
            text.replace("a", "\u00e4").encode("latin-1"),
            f'"{text}'.encode(),
        )
    )


def change_json_value(content, random):
    text = content.decode()
    place = random.choice([i for i, letter in enumerate(text) if letter in '":,[{#'])
    value = random.choice(
        ("[" * 100_000, "null", "1e999", '"\\ud800"', "{}", "[[]]", '"\\u001b[31m"', "NaN", '"')
    )
    return (text[:place] + value + text[place + random.randrange(2) :]).encode()


def change_npy_header(content, random):
    """Replaces the shape or the dtype, with the same length of the header."""
    end = content.index(b"\n")
    header = content[10:end].rstrip().decode()
    value = random.choice(
        ("'|O'", "'<M8'", "'<f8'", "'>u2'", "'<u2, <f4'", "[('a', '<u2')]", "'?'")
    )
    shape = random.choice(
        (
            "()",
            "(100000, 100000, 3)",
            "(-1, 64, 3)",
            "(64, 64)",
            "(10**9, 1)",
            "(1e9, 1)",
            "(64, 65, 3)",
        )
    )
    if random.random() < 0.5:
        start = header.index("'descr': ") + 9
        header = header[:start] + value + header[header.index(", 'fortran") :]
    else:
        start = header.index("'shape': ") + 9
        header = header[:start] + shape + header[header.index(")", start) + 1 :]
    return content[:10] + header.encode().ljust(end - 10) + content[end:]


_TEXT = (change_cell, change_cell, reorder_rows, reorder_cells, change_encoding)
STRUCTURED = {
    "png": (reorder_png, change_png_chunk, change_png_header, insert_png_chunk),
    "jpeg": (reorder_jpeg, change_jpeg_segment, change_jpeg_header),
    "tiff": (change_tiff_tag,),
    "zip": (change_zip_field,),
    "csv": _TEXT,
    "txt": _TEXT,
    "json": (change_json_value,),
    "npy": (change_npy_header,),
}
FITTING = (reorder_png, change_png_chunk, change_png_header, insert_png_chunk)
