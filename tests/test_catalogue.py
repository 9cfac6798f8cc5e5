"""The profiles at hand: which there are, which of two wins, and files that cannot be read."""

import pytest
from own_profiles import BANK, catalogue, findings

from proxy.catalogue import Catalogue
from proxy.errors import ConfigError

BUNDLED = (
    "doku",
    "doku-nonsnap",
    "ifortepay-disbursement",
    "ifortepay-payment",
    "klikoo",
    "netzme",
    "netzme-main",
    "netzme-vsnap",
    "snap",
)


def test_those_that_come_with_paraf():
    assert Catalogue().names == BUNDLED


def test_an_own_one_stands_beside_them(tmp_path):
    own = catalogue(tmp_path, bank=BANK)
    (tmp_path / "notes.txt").write_text("no profile")
    (tmp_path / "bank.yml").write_text("no profile either: the name ends in .yaml")
    assert own.names == tuple(sorted((*BUNDLED, "bank")))
    assert own.profile("bank").title == "Bank"
    assert own.profile("bank") is own.profile("bank")


def test_an_own_one_wins(tmp_path):
    assert catalogue(tmp_path, doku=BANK).profile("doku").title == "Bank"


def test_of_two_folders_the_later_wins(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bank.yaml").write_text(BANK.replace("title: Bank", f"title: {name}"))
    assert Catalogue([tmp_path / "b", tmp_path / "a"]).profile("bank").title == "a"


def test_an_own_one_extends_a_bundled_one(tmp_path):
    text = "extends: snap\ntitle: Bank\ndocs: https://bank.example\nenvironments: {live: {api: https://bank.example}}\n"
    own = catalogue(tmp_path, bank=text)
    assert own.profile("bank").token.endpoint.target == "/v1.0/access-token/b2b"
    assert own.laid_out("bank")["environments"] == {"live": {"api": "https://bank.example"}}
    assert own.laid_out("bank")["canonical"] == "minify"


def test_no_such_profile(tmp_path):
    with pytest.raises(KeyError):
        catalogue(tmp_path).profile("bank")


@pytest.mark.parametrize(
    ("text", "others", "file", "words"),
    [
        ("extends: snpa\n", {}, "mine", "did you mean snap?"),
        ("extends: mine\n", {}, "mine", "leads back"),
        ("extends: b\n", {"b": "extends: c\n", "c": "extends: mine\n"}, "c", "leads back"),
        ("extends: b\n", {"b": "extends: b\n"}, "b", "leads back"),
        ("extends: [snap]\n", {}, "mine", "must be some text"),
        ("extends: b\n", {"b": "- 1\n"}, "b", "must be a mapping"),
        ("extends: b\n", {"b": "a: [\n"}, "b", "not valid YAML"),
        ("- a\n", {}, "mine", "must be a mapping"),
        ("", {}, "mine", "the file is empty"),
        ("a: 1\na: 2\n", {}, "mine", "stands twice"),
        ("a: !!python/object:os.system x\n", {}, "mine", "tags"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, text, others, file, words):
    found = findings(tmp_path, text, **others)
    assert any(words in each.message and each.file == str(tmp_path / f"{file}.yaml") for each in found), found


def test_a_file_that_cannot_be_read(tmp_path):
    own = catalogue(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"title: \xff\n")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "lost.yaml").symlink_to("nowhere")
    for name, words in (("binary", "not UTF-8"), ("folder", "Is a directory"), ("lost", "No such file")):
        with pytest.raises(ConfigError) as caught:
            own.profile(name)
        assert [each.file for each in caught.value.findings] == [str(tmp_path / f"{name}.yaml")]
        assert words in caught.value.findings[0].message
    assert own.profile("doku").title == "DOKU (SNAP)"


def test_a_hostile_file_is_bounded(tmp_path):
    bomb = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
        f"{below}: &{below} [{', '.join([f'*{above}'] * 8)}]\n"
        for above, below in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for text in (bomb, "a: " + "[" * 100_000, "a: " + "{a: " * 100_000):
        assert findings(tmp_path, text)
