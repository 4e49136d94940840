"""What stays and what goes: collection while clients push, and kill -9 at random moments."""
import json
import os
import random
import signal
import subprocess
import threading
import time

from conftest import IMAGE, PROGRAM, digest

KILLS = int(os.environ.get('KILLS', '20'))


def collect(registry, grace):
    registry.stop()
    result = subprocess.run([PROGRAM, '--root', str(registry.root), '--collect', '--grace', str(grace)], capture_output=True, text=True,
                            timeout=60)
    assert result.returncode == 0, result.stderr
    registry.start()
    return result.stderr


def test_only_what_nothing_names_goes(registry):
    kept = registry.push_image('a', 'v1', b'kept layer', b'shared layer')
    gone = registry.push_image('a', 'v2', b'gone layer', b'shared layer')
    registry.push_blob('b', b'never named')
    registry.push_blob('b', b'kept layer')  # named in a, not in b
    registry.call('POST', '/v2/a/blobs/uploads/')
    assert registry.call('DELETE', f'/v2/a/manifests/{gone}')[0] == 202
    assert 'collected 0 blobs' in collect(registry, 3600)
    assert registry.call('GET', f'/v2/b/blobs/{digest(b"never named")}')[0] == 200
    time.sleep(1.1)
    assert 'collected 2 blobs of 21 bytes and 1 abandoned' in collect(registry, 0)
    for name, data, status in (('a', b'kept layer', 200), ('a', b'shared layer', 200), ('a', b'gone layer', 404),
                               ('b', b'never named', 404), ('b', b'kept layer', 404)):
        assert registry.call('GET', f'/v2/{name}/blobs/{digest(data)}')[0] == status
    assert registry.call('GET', f'/v2/a/manifests/{kept}')[0] == 200
    assert len(registry.files()) == 4  # manifest, configuration, two layers


def test_a_file_without_a_record_goes(registry):
    stray = registry.root / 'blobs/sha256' / ('ab' * 32)
    stray.write_bytes(b'half of a crash')
    foreign = registry.root / 'blobs/sha256/README'
    foreign.write_text('not ours')
    assert 'collected 1 blobs of 15 bytes' in collect(registry, 0)
    assert foreign.exists() and not stray.exists()


def test_collection_while_clients_push(make):
    registry = make('--collect-every', '1', '--grace', '60')
    failures = []

    def push(number):
        try:
            for i in range(15):
                name = f'r{number}/x'
                manifest = registry.push_image(name, f'v{i}', b'common', os.urandom(20_000))
                assert registry.call('GET', f'/v2/{name}/manifests/{manifest}')[0] == 200
                if i % 2:
                    assert registry.call('DELETE', f'/v2/{name}/manifests/{manifest}')[0] == 202
        except AssertionError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=push, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for n in range(4):
        tags = json.loads(registry.call('GET', f'/v2/r{n}/x/tags/list')[2])['tags']
        assert sorted(tags) == sorted(f'v{i}' for i in range(0, 15, 2))


def whole(registry):
    """Every tag's manifest and every blob it names is there, with the digest it should have."""
    for name in json.loads(registry.call('GET', '/v2/_catalog')[2])['repositories']:
        for tag in json.loads(registry.call('GET', f'/v2/{name}/tags/list')[2])['tags']:
            status, headers, text = registry.call('GET', f'/v2/{name}/manifests/{tag}')
            assert (status, digest(text)) == (200, headers['Docker-Content-Digest'])
            manifest = json.loads(text)
            for part in [manifest['config'], *manifest['layers']]:
                status, _, data = registry.call('GET', f'/v2/{name}/blobs/{part["digest"]}')
                assert (status, digest(data)) == (200, part['digest'])


def test_kill_at_random_moments(registry):
    choose = random.Random(5)
    done = {}
    for round_ in range(KILLS):
        timer = threading.Timer(choose.uniform(0.0, 0.15), lambda: registry.process.send_signal(signal.SIGKILL))
        timer.start()
        number = 0
        try:
            while True:
                name = f'k/{choose.randrange(3)}'
                done[name, f'v{round_}-{number}'] = registry.push_image(name, f'v{round_}-{number}', choose.randbytes(100_000), b'common')
                if choose.random() < 0.2:
                    registry.call('DELETE', f'/v2/{name}/manifests/v{round_}-{number}')
                    del done[name, f'v{round_}-{number}']
                number += 1
        except Exception as failure:  # whatever a dying server looks like
            assert registry.process.wait(10) == -signal.SIGKILL, failure
        timer.join()
        registry.start('--grace', '0' if round_ % 3 == 0 else '3600')
        for (name, tag), manifest in done.items():  # what was answered is there
            assert registry.call('HEAD', f'/v2/{name}/manifests/{tag}')[1]['Docker-Content-Digest'] == manifest
    whole(registry)
    collect(registry, 0)
    whole(registry)
    assert registry.call('PUT', '/v2/k/0/manifests/x', b'{', content_type=IMAGE)[0] == 400
