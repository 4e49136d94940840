"""Requests whose first line is long: a thousand names in one."""
import io
import json
import subprocess
import tarfile

import pytest

import images


@pytest.fixture
def thousand(docker, api):
    """One image with as many names as a save takes."""
    names = [f'registry.example.com/a-team/with-a-long-name/image-{number}:v1.{number}' for number in range(1000)]
    archive, image = images.docker_archive(names, [images.tar([images.entry('file', data=b'x')])])
    docker.ok('load', '-q', input=archive)
    yield names
    assert api.delete(f'/images/{image}?force=1').status == 200


def test_save_of_a_thousand_names(docker, thousand):
    done = subprocess.run(docker.command('save', *thousand), capture_output=True, env=docker.environment())
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        manifest = json.load(tar.extractfile('manifest.json'))
    assert len(manifest) == 1 and sorted(manifest[0]['RepoTags']) == sorted(thousand)


@pytest.mark.differs('answers 500 to a broken body')
def test_a_megabyte_of_head(api):
    """As Go's servers: a first line of up to 1 MiB is read; the connection ends with its answer. Others go on as they did."""
    for size in (1000, 30_000, 100_000, 1_000_000):
        answer = api.get('/images/json?filters=' + '%20' * (size // 3))
        assert answer.status in (200, 400), size
    answer = api.get('/images/get?names=' + '&names='.join(f'none-{number}' for number in range(20_000)))
    assert answer.status in (400, 404)


@pytest.mark.berth
def test_longer_heads_are_refused(api):
    try:
        assert api.get('/images/json?x=' + 'y' * 5_000_000).status in (413, 414, 431)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it had not sent all when it was refused
    assert api.get('/_ping').status == 200
