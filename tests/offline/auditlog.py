#!/usr/bin/env python3
"""A second verifier and opener of Sekisho's audit log, written from gateway/audit/FORMAT.md alone.

It shares no code with the gateway. It reads a log whole into memory: it is there to agree or to disagree, not to be fast.
More than 600 lines in one file: whoever audits a log carries this file and needs no other.

    auditlog.py verify DIR --key KEY [--older FILE]         exit code 0 good, 1 bad, 2 usage
    auditlog.py flips DIR --key KEY [--every N]             each N-th byte of the log's files changed must be found
    auditlog.py statements DIR --domain DOMAIN              the reviewers in force, by site
    auditlog.py open DIR --key KEY --keys KEYDIR --reviewer FILE --passphrase TEXT [--site NAME --pepper FILE]

KEY is a verifier key or a file with one on each line. Answers are JSON, one object a line.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import struct
import sys

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KINDS = {
    1: "request", 2: "intent", 3: "outcome", 4: "completion", 5: "stream-opened", 6: "stream-periodic",
    7: "stream-closed", 8: "addendum", 9: "login", 10: "session", 16: "connection-opened", 17: "connection-closed",
    18: "refusal", 19: "refusal-summary", 22: "connection-moved", 32: "registry-change", 33: "registry-rollback", 34: "reviewers", 35: "shred", 36: "opening",
    37: "revocation-change", 38: "rewrap", 39: "removal",
    48: "start", 49: "stop", 50: "reload", 51: "recovery", 52: "clock", 53: "audit-failure", 54: "full", 55: "gap",
}
NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}\Z")


class Bad(Exception):
    """Something is not as the page says. `entry` is the first bad one, where that is known."""

    def __init__(self, why, entry=None):
        super().__init__(why)
        self.why, self.entry = why, entry


def need(condition, why):
    if not condition:
        raise Bad(why)


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def strict_base64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Bad("base64") from error
    need(base64.b64encode(data).decode() == text, "base64 is not strict")
    return data


def decimal(text):
    need(re.fullmatch(r"0|[1-9][0-9]{0,19}", text) is not None and int(text) < 2**64, f"`{text}` is not a number")
    return int(text)


# --- signed notes and keys


class Key:
    """A verifier key of a log or a reviewer."""

    def __init__(self, line):
        parts = line.split("+", 2)
        need(len(parts) == 3, "not a verifier key")
        self.name, key_id, key = parts[0], parts[1], strict_base64(parts[2])
        need(self.name and not re.search(r"\s", self.name), "a key's name")
        need(len(key) == 33 and key[0] == 1, "not a log's key")
        self.public = key[1:]
        self.id = sha256(self.name.encode(), b"\n\x01", self.public)[:4]
        need(self.id.hex() == key_id, "a key's id")

    def signed(self, text, signature):
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


def read_note(data):
    """The text of a note, and its signatures: name, key id, signature."""
    need(len(data) <= 256 * 1024, "the note is too long")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Bad("the note is not UTF-8") from error
    need(not any(ord(c) < 0x20 and c != "\n" for c in text), "the note has control characters")
    cut = text.rfind("\n\n")
    need(cut >= 0 and text.endswith("\n"), "the note is not signed")
    lines = text[cut + 2 : -1].split("\n")
    need(len(lines) <= 64, "the note has too many signatures")
    signatures = []
    for line in lines:
        words = line.split(" ")
        need(len(words) == 3 and words[0] == "\u2014" and words[1], "not a signature")
        data = strict_base64(words[2])
        need(len(data) > 4, "not a signature")
        signatures.append((words[1], data[:4], data[4:]))
    return text[: cut + 1], signatures


def verify_note(data, keys):
    """The text, if one of the keys has signed, and all of them that have rightly; and who."""
    text, signatures = read_note(data)
    signers = []
    for name, key_id, signature in signatures:
        for key in keys:
            if (key.name, key.id) == (name, key_id):
                need(key.signed(text, signature), "a signature is not that of this note")
                signers.append(key.name)
    need(signers, "no known key has signed")
    return text, signers


def read_checkpoint(data, key):
    text, _ = verify_note(data, [key])
    lines = text[:-1].split("\n")
    need(len(lines) >= 3 and all(lines), "not a checkpoint")
    need(lines[0] == key.name, f"another log: `{lines[0]}`")
    root = strict_base64(lines[2])
    need(len(root) == 32, "not a checkpoint")
    return decimal(lines[1]), root


# --- the tree


def leaf(entry):
    return sha256(b"\0", entry)


def root_of(hashes):
    """RFC 6962, 2.1, over hashes of whole subtrees."""
    if not hashes:
        return sha256()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return sha256(b"\1", root_of(hashes[:k]), root_of(hashes[k:]))


def tile_path(level, number, width):
    groups = [number % 1000]
    while number >= 1000:
        number //= 1000
        groups.append(number % 1000)
    path = "/".join(("x%03d" if place else "%03d") % group for place, group in reversed(list(enumerate(groups))))
    return f"tile/{level}/{path}" + (f".p/{width}" if width < 256 else "")


class Directory:
    def __init__(self, path):
        self.path = path

    def read(self, name):
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None


class Changed:
    """A log with one file changed, in memory."""

    def __init__(self, files, name, data):
        self.files, self.name, self.data = files, name, data

    def read(self, name):
        return self.data if name == self.name else self.files.get(name)


def tile(files, level, number, width):
    """A tile's or bundle's bytes, and whether the full one stands for a partial one."""
    data = files.read(tile_path(level, number, width))
    if data is None and width < 256:
        return files.read(tile_path(level, number, 256)), True
    return data, False


def split_bundle(data):
    """The entries in a bundle, and how many bytes are left behind them."""
    entries, at = [], 0
    while at + 2 <= len(data):
        (length,) = struct.unpack_from(">H", data, at)
        if at + 2 + length > len(data):
            break
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return entries, len(data) - at


def verify_log(files, key, older=None):
    """Size and root of the log, its records from the first that is there, that one's number, and what was removed."""
    data = files.read("checkpoint")
    need(data is not None, "the checkpoint is missing")
    size, root = read_checkpoint(data, key)
    if older is not None:
        old_size, old_root = read_checkpoint(older, key)
        if old_size > size:
            raise Bad("truncated", size)
        if old_size == size and old_root != root:
            raise Bad("forked", 0)

    # The hashes that the tiles give, bottom up, each level against the one above.
    levels, level = [], 0
    while size >> (8 * level):
        count = size >> (8 * level)
        hashes = []
        for number in range((count + 255) // 256):
            width = min(256, count - 256 * number)
            bytes_, full = tile(files, level, number, width)
            if bytes_ is None or len(bytes_) != 32 * (256 if full else width):
                hashes = None
                break
            hashes += [bytes_[32 * i : 32 * i + 32] for i in range(width)]
        levels.append(hashes)
        level += 1
    tiles_good = all(hashes is not None for hashes in levels)
    if tiles_good:
        for below, above in zip(levels, levels[1:]):
            tiles_good = tiles_good and all(
                root_of(below[256 * i : 256 * i + 256]) == hash_ for i, hash_ in enumerate(above)
            )
        tiles_good = tiles_good and root_of(levels[0] if levels else []) == root

    # What a record says was removed: if a bundle of it is gone, the log begins behind it.
    removed = find_removed(files, size, levels) if tiles_good else None
    if removed is not None and all(tile(files, "entries", n, 256)[0] for n in range(removed["entries"] // 256)):
        removed = None
    begin, first_record = (removed["entries"], removed["next"]) if removed else (0, 1)

    # The entries as they stand.
    entries, places, problem = [], [], None
    for number in range(begin // 256, (size + 255) // 256):
        width = min(256, size - 256 * number)
        bytes_, full = tile(files, "entries", number, width)
        if bytes_ is None:
            later = any(tile(files, "entries", n, min(256, size - 256 * n))[0] for n in range(number + 1, (size + 255) // 256))
            problem = problem or (256 * number, "removed" if later else "truncated")
            places.append((256 * number, []))
            continue
        found, left = split_bundle(bytes_)
        places.append((256 * number, found))
        if len(found) < width:
            last = number == (size + 255) // 256 - 1
            problem = problem or (256 * number + len(found), "truncated" if last else "altered" if left else "removed")
        elif not full and (left or len(found) > width):
            problem = problem or (256 * number + width, "inserted")
        entries += found[:width]
    gone = levels[0][:begin] if begin else []
    whole = begin + len(entries) == size and root_of(gone + [leaf(entry) for entry in entries]) == root
    if not tiles_good:
        if whole and problem is None:
            raise Bad("a tile is damaged, and no entry")
        raise Bad("forked or altered", problem[0] if problem else None)
    expected = levels[0] if levels else []
    for first, found in places:
        for place, hash_ in enumerate(expected[first : first + 256]):
            if place >= len(found) or leaf(found[place]) != hash_:
                raise Bad(reason(expected, first + place, found, place, problem), first + place)
    if problem is not None:
        raise Bad(problem[1], problem[0])
    need(whole, "the entries are not those of the root")
    if older is not None and root_of(expected[:old_size]) != old_root:
        raise Bad("forked", 0)
    return size, root, join(entries, first_record, begin), first_record, removed


def find_removed(files, size, levels):
    """The newest tombstone: pointed at by a file that vouches for nothing, itself under the root."""
    data = files.read("removed")
    pointer = re.fullmatch(rb"sekisho audit removal v1\nentry (0|[1-9][0-9]*)\nrecord ([1-9][0-9]*)\n", data or b"")
    if pointer is None:
        return None
    place, record = int(pointer[1]), int(pointer[2])
    if place >= size:
        return None
    bundle, _ = tile(files, "entries", place // 256, min(256, size - place // 256 * 256))
    found = split_bundle(bundle or b"")[0]
    if place % 256 >= len(found) or leaf(found[place % 256]) != levels[0][place]:
        return None
    entry = found[place % 256]
    if len(entry) < 14 or entry[:1] != b"\1" or struct.unpack_from(">QHH", entry, 1) != (record, 0, 1):
        return None
    try:
        envelope = Envelope(entry[13:])
    except Bad:
        return None
    words = re.fullmatch(rb"([1-9][0-9]*)-([1-9][0-9]*)-([0-9a-f]{64})", envelope.reference)
    if envelope.kind != "removal" or words is None:
        return None
    entries, following = int(words[1]), int(words[2])
    if entries % 256 or entries > place or following > record:
        return None
    if root_of(levels[0][:entries]).hex() != words[3].decode():
        return None
    return {"entries": entries, "next": following, "record": record}


def reason(expected, index, found, place, problem):
    """What happened to entry `index`, from what is left."""
    if place >= len(found):
        return problem[1] if problem and problem[0] == index else "removed"
    there, belongs = leaf(found[place]), expected[index]
    behind = [leaf(entry) for entry in found[place + 1 :]]
    if there in expected[index + 1 :]:
        home = index + 1 + expected[index + 1 :].index(there)
        swapped = home - index - 1 < len(behind) and behind[home - index - 1] == belongs
        moved = belongs in behind and not swapped
        return "reordered" if swapped else "inserted" if moved else "removed"
    return "inserted" if belongs in behind else "altered"


def join(entries, first, begin):
    """The envelopes by sequence number, from the first."""
    records, sequence, parts, joined = [], first, 0, []
    for index, entry in enumerate(entries, begin):
        if len(entry) < 14 or entry[0] != 1:
            raise Bad("signed and unreadable", index)
        number, part, count = struct.unpack_from(">QHH", entry, 1)
        last = part + 1 == count
        fits = part < count and (len(entry) - 13 == 65522 or last) and len(entry) - 13 <= 65522
        if not fits:
            raise Bad("signed and unreadable", index)
        if number != sequence or part != len(joined) or (joined and count != parts):
            raise Bad("signed out of order", index)
        parts = count
        joined.append(entry[13:])
        if last:
            records.append(b"".join(joined))
            joined, sequence = [], sequence + 1
    return records


# --- sealed records


class Envelope:
    def __init__(self, data):
        need(len(data) >= 35 and data[0] == 1, "not an envelope")
        need(data[1] in KINDS, f"kind {data[1]}")
        self.kind = KINDS[data[1]]
        (self.time,) = struct.unpack_from(">q", data, 2)
        self.site, self.key = data[10:18], data[18:34]
        end = 35 + data[34]
        need(len(data) >= end + 16, "the envelope is cut off")
        self.clear, self.sealed = data[:end], data[end:]
        self.reference = data[35:end]
        need(all(0x21 <= byte <= 0x7E for byte in self.reference), "the reference")

    def open(self, key, origin, sequence):
        name = origin.encode()
        associated = struct.pack(">H", len(name)) + name + struct.pack(">Q", sequence) + self.clear
        nonce = bytes(4) + struct.pack(">Q", sequence)
        return AESGCM(key).decrypt(nonce, self.sealed, associated)


SUITE = hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class KeyFile:
    def __init__(self, data):
        lines = data.decode("utf-8").split("\n")
        need(lines[-1] == "", "the key file does not end with a newline")
        rest = lines[:-1]

        def take(name, optional=False):
            if rest and rest[0].startswith(name + " "):
                return rest.pop(0)[len(name) + 1 :]
            need(optional, f"`{name}` is missing in a key file")
            return ""

        need(rest and rest.pop(0) == "sekisho audit data key v1", "not a key file")
        self.origin, self.site = take("origin"), take("site", optional=True)
        self.pseudonym = bytes.fromhex(take("pseudonym"))
        need((self.pseudonym == bytes(8)) == (self.site == ""), "the pseudonym in a key file")
        self.klass, self.period = take("class", optional=True), take("period")
        need(decimal(take("days")) > 0, "the days of a period")
        self.key, self.first = bytes.fromhex(take("key")), decimal(take("first"))
        self.wrapped = {}
        while rest:
            name, enc, ct = take("reviewer").split(" ")
            need(NAME.match(name) and name not in self.wrapped, "a reviewer in a key file")
            self.wrapped[name] = strict_base64(enc) + strict_base64(ct)
            need(len(self.wrapped[name]) == 65 + 48, "a wrapped key")
        need(self.wrapped, "a key file has no reviewer")

    def open(self, reviewer):
        items = [b"sekisho audit data key v1", self.origin.encode(), self.site.encode(), self.klass.encode()]
        items += [self.period.encode(), reviewer.name.encode(), self.key]
        info = b"".join(struct.pack(">H", len(item)) + item for item in items)
        return SUITE.decrypt(self.wrapped[reviewer.name], reviewer.private, info=info)


class Reviewer:
    """A reviewer's public line."""

    def __init__(self, line):
        words = line.split(" ")
        need(len(words) == 4 and words[0] == "reviewer" and NAME.match(words[1]), "not a reviewer")
        self.name, self.point, self.key = words[1], strict_base64(words[2]), Key(words[3])
        need(self.key.name == self.name and len(self.point) == 65 and self.point[0] == 4, "a reviewer's keys")
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.point)


class PrivateReviewer:
    """A reviewer's private file."""

    def __init__(self, data, passphrase):
        lines = data.decode("utf-8").split("\n")
        need(len(lines) == 5 and lines[4] == "" and lines[0] == "sekisho reviewer private key v1", "not a private file")
        public = Reviewer(lines[1])
        words = lines[2].split(" ")
        need(len(words) == 4 and words[:2] == ["derivation", "pbkdf2-hmac-sha256"], "not a private file")
        salt = strict_base64(words[3])
        key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, decimal(words[2]), 32)
        need(lines[3].startswith("sealed "), "not a private file")
        associated = "".join(line + "\n" for line in lines[:3]).encode()
        secret = AESGCM(key).decrypt(bytes(12), strict_base64(lines[3][7:]), associated)
        need(len(secret) == 64, "not a private file")
        self.name = public.name
        self.private = ec.derive_private_key(int.from_bytes(secret[:32], "big"), ec.SECP256R1())
        numbers = self.private.public_key().public_numbers()
        point = b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        signing = ed25519.Ed25519PrivateKey.from_private_bytes(secret[32:]).public_key().public_bytes_raw()
        need(point == public.point and signing == public.key.public, "other keys than in the public line")


# --- statements


class Statement:
    def __init__(self, data, domain):
        self.data = data
        text, signatures = read_note(data)
        need(len(signatures) == 1, "a statement has one signature")
        lines = text[:-1].split("\n")
        need(len(lines) >= 5 and lines[0] == f"{domain}/reviewers", "not a statement of this domain")
        for line, start in zip(lines[1:4], ["site ", "number ", "previous "]):
            need(line.startswith(start), "not a statement")
        self.site, self.number, self.previous = lines[1][5:], decimal(lines[2][7:]), lines[3][9:]
        need(self.site == "*" or NAME.match(self.site), "a statement's site")
        need(self.previous == "none" or re.fullmatch("[0-9a-f]{64}", self.previous), "a statement's previous")
        self.reviewers = [Reviewer(line) for line in lines[4:]]
        names = [reviewer.name for reviewer in self.reviewers]
        need(len(names) <= 16 and len(set(names)) == len(names), "a statement's reviewers")
        self.digest = sha256(data).hex()

    def check(self, previous, signers):
        need(self.previous == previous, f"statement {self.number} of `{self.site}` follows another")
        verify_note(self.data, [reviewer.key for reviewer in signers])


def validate_statements(path, domain):
    """The statements by site, each chain validated."""
    chains = {}
    for folder in sorted(os.listdir(path), key=lambda name: (name != "@default", name)):
        site = "*" if folder == "@default" else folder
        numbers = sorted(int(name) for name in os.listdir(os.path.join(path, folder)) if not name.startswith("."))
        need(numbers == list(range(1, len(numbers) + 1)), f"statements of `{site}` are missing")
        chain = chains.setdefault(site, [])
        for number in numbers:
            with open(os.path.join(path, folder, str(number)), "rb") as file:
                statement = Statement(file.read(), domain)
            need((statement.site, statement.number) == (site, number), "a statement in another's place")
            if chain:
                statement.check(chain[-1].digest, chain[-1].reviewers)
            elif site == "*":
                statement.check("none", statement.reviewers)
            else:
                base = [other for other in chains["*"] if other.digest == statement.previous]
                need(base, f"statement 1 of `{site}` begins at no statement of `*`")
                statement.check(base[0].digest, base[0].reviewers)
            chain.append(statement)
    need("*" in chains, "there is no first statement")
    return chains


# --- the command


def keys_in(text):
    if os.path.exists(text):
        with open(text, encoding="utf-8") as file:
            return [Key(line) for line in file.read().split("\n") if line and not line.startswith("#")]
    return [Key(text)]


def key_for(files, text):
    data = files.read("checkpoint")
    need(data is not None, "the checkpoint is missing")
    origin = read_note(data)[0].split("\n")[0]
    keys = [key for key in keys_in(text) if key.name == origin]
    need(keys, f"another log: `{origin}`")
    return keys[0]


def say(**fields):
    print(json.dumps(fields))


def command_verify(arguments):
    files = Directory(arguments.dir)
    older = open(arguments.older, "rb").read() if arguments.older else None
    try:
        size, _, records, first, removed = verify_log(files, key_for(files, arguments.key), older)
    except Bad as bad:
        say(result="bad", why=bad.why, entry=bad.entry)
        return 1
    gone = {"removed": removed} if removed else {}
    say(result="good", size=size, records=first - 1 + len(records), **gone)
    return 0


def command_flips(arguments):
    files = Directory(arguments.dir)
    key = key_for(files, arguments.key)
    size = verify_log(files, key)[0]
    names = {"checkpoint"}
    for level in range(8):
        count = size >> (8 * level)
        for number in range((count + 255) // 256):
            names.add(tile_path(level, number, min(256, count - 256 * number)))
    for number in range((size + 255) // 256):
        names.add(tile_path("entries", number, min(256, size - 256 * number)))
    content = {name: files.read(name) for name in names}
    flips = 0
    for name, data in sorted(content.items()):
        if data is None:
            continue
        for at in range(flips % arguments.every, len(data), arguments.every):
            changed = bytearray(data)
            changed[at] ^= 1 << (at % 8)
            flips += 1
            try:
                verify_log(Changed(content, name, bytes(changed)), key)
            except Bad:
                continue
            say(result="missed", file=name, byte=at)
            return 1
    say(result="good", flips=flips)
    return 0


def command_statements(arguments):
    try:
        for site, chain in validate_statements(arguments.dir, arguments.domain).items():
            names = [reviewer.name for reviewer in chain[-1].reviewers]
            say(site=site, number=chain[-1].number, digest=chain[-1].digest, reviewers=names)
    except Bad as bad:
        say(result="bad", why=bad.why)
        return 1
    return 0


def command_open(arguments):
    files = Directory(arguments.dir)
    key = key_for(files, arguments.key)
    _, _, records, first, _ = verify_log(files, key)
    with open(arguments.reviewer, "rb") as file:
        reviewer = PrivateReviewer(file.read(), arguments.passphrase)
    if arguments.pepper:
        with open(arguments.pepper, "rb") as file:
            pepper = file.read()
        pseudonym = hmac.new(pepper, arguments.site.encode(), "sha256").digest()[:8]
    opened, closed, data_keys = 0, 0, {}
    for sequence, data in enumerate(records, first):
        envelope = Envelope(data)
        if arguments.pepper and envelope.site != pseudonym:
            continue
        if envelope.key not in data_keys:
            data_keys[envelope.key] = find_key(arguments.keys, envelope, key.name, reviewer)
        if data_keys[envelope.key] is None:
            closed += 1
            continue
        record = json.loads(envelope.open(data_keys[envelope.key], key.name, sequence))
        need((record["kind"], record["sequence"]) == (envelope.kind, sequence), "the header says something else")
        opened += 1
        print(json.dumps(record))
    say(result="good", opened=opened, closed=closed)
    return 0


def find_key(directory, envelope, origin, reviewer):
    """The data key of an envelope, if its file is there and wrapped to the reviewer."""
    site = os.path.join(directory, envelope.site.hex())
    for period in sorted(os.listdir(site)) if os.path.isdir(site) else []:
        path = os.path.join(site, period, envelope.key.hex())
        if os.path.exists(path):
            with open(path, "rb") as file:
                data = file.read()
            if data.startswith(b"sekisho audit data key destroyed "):
                return None
            wrapped = KeyFile(data)
            need((wrapped.origin, wrapped.key, wrapped.period) == (origin, envelope.key, period), "a key file's place")
            need(wrapped.pseudonym == envelope.site, "a key file's site")
            if reviewer.name in wrapped.wrapped:
                return wrapped.open(reviewer)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run, options in [
        ("verify", command_verify, ["--key", "--older"]),
        ("flips", command_flips, ["--key", "--every"]),
        ("statements", command_statements, ["--domain"]),
        ("open", command_open, ["--key", "--keys", "--reviewer", "--passphrase", "--site", "--pepper"]),
    ]:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("dir")
        for option in options:
            if option == "--every":
                command.add_argument(option, type=int, default=1)
            else:
                command.add_argument(option, required=option in ("--key", "--domain", "--keys", "--reviewer", "--passphrase"))
    arguments = parser.parse_args()
    try:
        return arguments.run(arguments)
    except Bad as bad:
        say(result="bad", why=bad.why, entry=bad.entry)
        return 1
    except InvalidTag:
        say(result="bad", why="something sealed does not open")
        return 1


if __name__ == "__main__":
    sys.exit(main())
