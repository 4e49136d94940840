"""Made-up images for the tests: a tiny root around busybox, and every archive form that clients write."""
import bz2
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
app:x:1000:1000:App:/home/app:/bin/sh
"""
GROUP = """root:x:0:
daemon:x:1:
app:x:1000:
extra:x:1234:app
"""


def entry(name, kind=tarfile.REGTYPE, data=b'', mode=0o644, link='', uid=0, gid=0):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, len(data), mode, link
    info.uid, info.gid, info.mtime = uid, gid, 1_700_000_000
    return info, data


def folder(name, mode=0o755, uid=0, gid=0):
    return entry(name, tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)


def tar(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def busybox_root():
    """The root every quick test runs: one static program and its names."""
    with open('/bin/busybox', 'rb') as program:
        busybox = program.read()
    names = subprocess.run(['/bin/busybox', '--list'], capture_output=True, text=True, check=True).stdout.split()
    entries = [folder(name) for name in ('bin', 'dev', 'etc', 'home', 'proc', 'sys', 'var', 'var/www')]
    entries += [folder('home/app', uid=1000, gid=1000), folder('root', 0o700), folder('tmp', 0o1777)]
    entries += [entry('bin/busybox', data=busybox, mode=0o755)]
    entries += [entry('bin/' + name, tarfile.SYMTYPE, link='busybox') for name in names if name != 'busybox']
    entries += [entry('etc/passwd', data=PASSWD.encode()), entry('etc/group', data=GROUP.encode()),
                entry('etc/not-a-program', data=b'text\n'), entry('var/www/index.html', data=b'hello from the image\n')]
    return tar(entries)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def config(layers, history=None, **settings):
    """An image config over uncompressed layer tars."""
    run = {'Env': ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], 'Cmd': ['sh'], **settings}
    return json.dumps({
        'architecture': 'amd64', 'os': 'linux', 'created': '2023-11-14T22:13:20Z', 'config': run,
        'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + digest(layer) for layer in layers]},
        'history': [{'created': '2023-11-14T22:13:20Z', 'created_by': 'made for tests'} for _ in layers]
        if history is None else history,
    }).encode()


def docker_archive(name, layers, **settings):
    """docker save since 1.10: manifest.json, the config by its digest, <id>/layer.tar. One name, or a list of them."""
    text = config(layers, **settings)
    paths = [f'{digest(layer)}/layer.tar' for layer in layers]
    manifest = [{'Config': digest(text) + '.json', 'RepoTags': name if isinstance(name, list) else [name] if name else None, 'Layers': paths}]
    entries = [entry(path, data=layer) for path, layer in zip(paths, layers)]
    entries += [entry(digest(text) + '.json', data=text), entry('manifest.json', data=json.dumps(manifest).encode())]
    return tar(entries), 'sha256:' + digest(text)


def legacy_archive(name, layers, **settings):
    """The oldest form: one folder per layer with VERSION, json and layer.tar, and `repositories`; no manifest.json."""
    repository, tag = name.split(':')
    entries, parent = [], None
    for index, layer in enumerate(layers):
        identity = digest(b'%d' % index + layer)
        text = {'id': identity, 'created': '2023-11-14T22:13:20Z', 'os': 'linux', 'architecture': 'amd64'}
        if parent:
            text['parent'] = parent
        if index == len(layers) - 1:
            text['config'] = json.loads(config(layers, **settings))['config']
        entries += [folder(identity), entry(f'{identity}/VERSION', data=b'1.0'),
                    entry(f'{identity}/json', data=json.dumps(text).encode()),
                    entry(f'{identity}/layer.tar', data=layer)]
        parent = identity
    entries.append(entry('repositories', data=json.dumps({repository: {tag: parent}}).encode()))
    return tar(entries)


def oci_archive(name, layers, compress=None, **settings):
    """An OCI layout as docker save writes it since 25 (without its manifest.json)."""
    text = config(layers, **settings)
    blobs, described = {digest(text): text}, []
    for layer in layers:
        blob = gzip.compress(layer, 1) if compress == 'gzip' else layer
        blobs[digest(blob)] = blob
        kind = 'application/vnd.oci.image.layer.v1.tar' + ('+gzip' if compress == 'gzip' else '')
        described.append({'mediaType': kind, 'digest': 'sha256:' + digest(blob), 'size': len(blob)})
    manifest = json.dumps({
        'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json',
        'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', 'digest': 'sha256:' + digest(text),
                   'size': len(text)},
        'layers': described}).encode()
    blobs[digest(manifest)] = manifest
    index = {'schemaVersion': 2, 'manifests': [{
        'mediaType': 'application/vnd.oci.image.manifest.v1+json', 'digest': 'sha256:' + digest(manifest),
        'size': len(manifest),
        'annotations': {'io.containerd.image.name': name if '/' in name else 'docker.io/library/' + name,
                        'org.opencontainers.image.ref.name': name.rpartition(':')[2]}}]}
    entries = [folder('blobs'), folder('blobs/sha256')]
    entries += [entry('blobs/sha256/' + hexed, data=data) for hexed, data in blobs.items()]
    entries += [entry('index.json', data=json.dumps(index).encode()),
                entry('oci-layout', data=b'{"imageLayoutVersion":"1.0.0"}')]
    return tar(entries), 'sha256:' + digest(text)


def zstd(data):
    return subprocess.run(['zstd', '-q', '-1', '-c'], input=data, capture_output=True, check=True).stdout


COMPRESSIONS = {
    'plain': lambda data: data,
    'gzip': lambda data: gzip.compress(data, 1),
    'bzip2': lambda data: bz2.compress(data, 1),
    'xz': lambda data: lzma.compress(data, preset=0),
    'zstd': zstd,
}
