import struct
import zipfile

import pytest

from tfds_deepglobe import sources
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.sources import File, Folder, Zip


def write_zip(path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def damage(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 255
    path.write_bytes(data)


def test_folder_and_zip_contain_the_same_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "1.txt").write_bytes(b"one")
    (tmp_path / "a" / "b" / "2.txt").write_bytes(b"two!")
    path = write_zip(tmp_path / "a.zip", **{"1.txt": b"one", "b/": b"", "b/2.txt": b"two!"})
    for source in (Folder(tmp_path / "a"), Zip(path)):
        files = sorted(source.files(), key=lambda file: file.name)
        assert files == [File("1.txt", 3), File("b/2.txt", 4)]
        assert [file.folder for file in files] == ["", "b"]
        assert [source.read(file.name) for file in files] == [b"one", b"two!"]


def test_symbolic_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.txt").write_bytes(b"one")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "elsewhere")
    assert list(Folder(tmp_path / "data").files()) == [File("train/1.txt", 3)]


def test_symbolic_links_that_form_a_loop_are_not_followed(tmp_path):
    data = tmp_path / "data"
    for folder in ("a", "b"):
        (data / folder).mkdir(parents=True)
        (data / folder / "1.txt").write_bytes(b"one")
    (data / "a" / "to_b").symlink_to("../b")
    (data / "b" / "to_a").symlink_to("../a")
    (data / "itself").symlink_to(".")
    (data / "parent").symlink_to("..")
    files = sorted(file.name for file in Folder(data).files())
    assert files == ["a/1.txt", "a/to_b/1.txt", "b/1.txt", "b/to_a/1.txt"]


def test_reading_a_symbolic_link_to_a_missing_file_raises(tmp_path):
    (tmp_path / "1.txt").symlink_to(tmp_path / "deleted.txt")
    folder = Folder(tmp_path)
    assert list(folder.files()) == [File("1.txt", 0)]
    with pytest.raises(InputError, match="^cannot be read: No such file or directory$"):
        folder.read("1.txt")


@pytest.mark.parametrize("name", ["./train/1.txt", "x/../train/1.txt", ".\\train\\1.txt"])
def test_unusual_paths_in_a_zip_are_normalized(tmp_path, name):
    source = Zip(write_zip(tmp_path / "a.zip", **{name: b"one"}))
    assert list(source.files()) == [File("train/1.txt", 3)]
    assert source.read("train/1.txt") == b"one"


def test_incomplete_zip_and_other_files_raise(tmp_path):
    path = write_zip(tmp_path / "a.zip", **{"1.txt": b"one" * 1000})
    for data in (b"GIF89a", path.read_bytes()[:-30]):
        path.write_bytes(data)
        with pytest.raises(InputError, match="neither a folder nor a complete zip"):
            Zip(path)


def test_list_of_a_zip_that_ends_early_raises(tmp_path):
    path = write_zip(tmp_path / "a.zip", **{f"{i}.txt": b"one" for i in range(3)})
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    size, start = struct.unpack_from("<II", data, end + 12)
    struct.pack_into("<II", data, end + 12, size // 3, start + size - size // 3)
    path.write_bytes(data)
    assert len(zipfile.ZipFile(path).infolist()) == 1  # no error in Python's library
    with pytest.raises(InputError, match="its list contains 1 of 3 files"):
        Zip(path)


def test_zip_with_more_files_than_16_bits_can_count(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.filelist = [zipfile.ZipInfo("x")] * 65_540
        for member in file.filelist:
            member.header_offset = member.file_size = member.compress_size = member.CRC = 0
        file._didModify = True
    assert len(list(Zip(path).files())) == 65_540


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("extract_version", 255, "version 25.5"),
        ("flag_bits", 0x0800, "'utf-8' codec"),
        ("filename", "", "without a name"),
    ],
)
def test_damaged_list_of_a_zip_raises(tmp_path, field, value, message):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("1?.txt", b"one")
        file.writestr("2.txt", b"two")
        setattr(file.infolist()[0], field, value)  # is written when the zip is closed
    path.write_bytes(path.read_bytes().replace(b"1?", b"1\xe9"))  # not UTF-8
    with pytest.raises(InputError, match=f"neither a folder nor a complete zip .*{message}"):
        Zip(path)


@pytest.mark.parametrize(
    ("compression", "place", "message"),
    [
        (zipfile.ZIP_STORED, 0, "Bad CRC-32"),
        (zipfile.ZIP_DEFLATED, 0, "decompressing"),
        (zipfile.ZIP_BZIP2, 0, "Invalid data stream"),
        (zipfile.ZIP_LZMA, 20, "Corrupt input data"),
    ],
)
def test_damaged_file_in_a_zip_raises(tmp_path, compression, place, message):
    content = bytes(range(256)) * 8
    path = write_zip(tmp_path / "a.zip", compression, **{"1.txt": content, "2.txt": content})
    damage(path, 30 + len("1.txt") + place)  # the header has 30 bytes plus the name
    source = Zip(path)
    list(source.files())
    with pytest.raises(InputError, match=f"cannot be read from the zip: .*{message}"):
        source.read("1.txt")
    assert source.read("2.txt") == content


def test_large_file_in_a_zip_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_SIZE", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.txt", bytes(1001))
    source = Zip(tmp_path / "bomb.zip")
    list(source.files())
    with pytest.raises(InputError, match="GB are read from a zip; unpack the zip, if you trust"):
        source.read("1.txt")


def test_encrypted_file_in_a_zip_raises(tmp_path):
    path = write_zip(tmp_path / "a.zip", **{"1.txt": b"one"})
    data = path.read_bytes()
    # Set the flag for encryption in both headers of the file.
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(signature) + flags
        data = data[:place] + b"\x01" + data[place + 1 :]
    path.write_bytes(data)
    source = Zip(path)
    list(source.files())
    with pytest.raises(InputError, match="is encrypted"):
        source.read("1.txt")


def test_bugs_are_not_reported_as_damaged_files(tmp_path, monkeypatch):
    source = Zip(write_zip(tmp_path / "a.zip", **{"1.txt": b"one"}))
    list(source.files())
    with pytest.raises(KeyError):
        source.read("2.txt")
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(TypeError):
        source.read("1.txt")
