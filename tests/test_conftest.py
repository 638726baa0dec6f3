from tests.conftest import HEAVY, ROOT


def test_heavy_files_exist():
    assert not [name for name in HEAVY if not (ROOT / name).is_file()]
