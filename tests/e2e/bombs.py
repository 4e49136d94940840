"""Streams that become a multiple of themselves: 10 GiB out of kilobytes."""
import bz2
import gzip
import subprocess
import tarfile

SIZE = 10 << 30
PIECE = 16 << 20
WORDS = 'inflate to more than 4294967296, over 200 times of it: refused (--max-inflate-ratio allows more)'
GZIP = gzip.compress
BZIP2 = bz2.compress


def ZSTD(data):
    return subprocess.run(['zstd', '-q', '-c', '--no-content-size'], input=data, capture_output=True, check=True).stdout


def header():
    """Of one file with SIZE bytes."""
    info = tarfile.TarInfo('zeros')
    info.size = SIZE
    return info.tobuf(tarfile.GNU_FORMAT)


def pieces(compress, start):
    """`start`, then SIZE zeros and the end of a tar: members of one stream, so that it takes no time to make."""
    return compress(start) + compress(bytes(PIECE)) * (SIZE // PIECE) + compress(bytes(1024))
