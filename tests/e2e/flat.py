"""An image as the tree and the configuration that it stands for, read from its archive (`docker save`): layers laid over each other by their tars alone."""
import hashlib
import io
import json
import stat
import tarfile

KINDS = {tarfile.REGTYPE: 'file', tarfile.DIRTYPE: 'folder', tarfile.SYMTYPE: 'link', tarfile.CHRTYPE: 'char', tarfile.BLKTYPE: 'block', tarfile.FIFOTYPE: 'fifo'}
XATTR = 'SCHILY.xattr.'
NOW = 1_750_000_000  # what is later was written by the build itself


class Node:
    """What one name stands for; hard links share one."""

    def __init__(self, member, data):
        self.kind, self.mode = KINDS[member.type], stat.S_IMODE(member.mode)
        self.owner, self.time, self.target = (member.uid, member.gid), member.mtime, member.linkname if member.issym() else ''
        self.device = (member.devmajor, member.devminor) if member.ischr() or member.isblk() else None
        self.digest = hashlib.sha256(data).hexdigest()[:12] if member.isreg() else ''
        self.xattrs = {key[len(XATTR):]: value for key, value in member.pax_headers.items() if key.startswith(XATTR)}


def remove(tree, path, itself=True):
    for known in [known for known in tree if known.startswith(path + '/' if path else '') or itself and known == path]:
        del tree[known]


def put(tree, path, node):
    old = tree.get(path)
    if old and not (old.kind == node.kind == 'folder'):
        remove(tree, path)
    tree[path] = node


def lay(tree, layer):
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        members = [(member.name.strip('/').removeprefix('./').strip('.') if member.name in ('.', './') else member.name.removeprefix('./').strip('/'), member) for member in archive]
        for path, _ in members:  # what is deleted is below this layer's own files, wherever it stands in the tar
            folder, _, name = path.rpartition('/')
            if name == '.wh..wh..opq':
                remove(tree, folder, False)
            elif name.startswith('.wh.'):
                remove(tree, (folder + '/' if folder else '') + name[4:])
        for path, member in members:
            if path.rpartition('/')[2].startswith('.wh.') or not path:
                continue
            if member.islnk():
                put(tree, path, tree[member.linkname.removeprefix('./').strip('/')])
            else:
                put(tree, path, Node(member, archive.extractfile(member).read() if member.isreg() else b''))


def read(path):
    """{name: what is known of it}, and the configuration, whole, as the image has it."""
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile('manifest.json'))[0]
        config = json.load(archive.extractfile(manifest['Config']))
        tree = {}
        for layer in manifest['Layers']:
            lay(tree, archive.extractfile(layer).read())
    names = {}
    for name, node in tree.items():
        names.setdefault(id(node), []).append(name)
    out = {}
    for name, node in tree.items():
        known = {'kind': node.kind, 'owner': node.owner, 'time': 'now' if node.time > NOW else int(node.time)}
        if node.kind != 'link':
            known['mode'] = oct(node.mode)
        if len(names[id(node)]) > 1:
            known['same file'] = sorted(names[id(node)])
        for key in ('digest', 'target', 'device', 'xattrs'):
            if getattr(node, key):
                known[key] = getattr(node, key)
        out[name] = known
    return out, config
