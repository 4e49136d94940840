"""Debian's cloud kernel, for everything that boots one: downloaded and unpacked, never installed; its vmlinux; its modules in the
order they are loaded in; and the archive that an initramfs is."""
import glob
import os
import shutil
import stat
import struct
import subprocess

META_PACKAGE = 'linux-image-cloud-amd64'

HOLE = 65536  # bytes; shorter runs of zeros are written

DECOMPRESS = {b'\x02\x21\x4c\x18': ['lz4', '-dc'], b'\xfd7zX': ['xz', '-dc'], b'\x28\xb5\x2f\xfd': ['zstd', '-dc'],
              b'\x1f\x8b': ['gzip', '-dc']}


class NoKernel(Exception):
    pass


def output(*command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, **more).stdout


def write(path, data):
    """Whole or not at all: somebody may have the old one open. Long zeros are holes: a third of a kernel is, and a machine that is
    booted from it passes over them."""
    with open(path + '.new', 'wb') as file:
        for at in range(0, len(data), HOLE):
            if (block := data[at:at + HOLE]).strip(b'\0'):
                file.seek(at)
                file.write(block)
        file.truncate(len(data))
    os.rename(path + '.new', path)


# ---- the package ------------------------------------------------------------------------------------------------------


def package_of_suite():
    """Name and version of the kernel that Debian's meta package stands for; None without package lists."""
    for line in output('apt-cache', 'depends', META_PACKAGE).decode().splitlines():
        name = line.strip().removeprefix('Depends: ')
        if line.strip() == f'Depends: {name}' and name.startswith('linux-image-'):
            for row in output('apt-cache', 'policy', name).decode().splitlines():
                if row.strip().startswith('Candidate: '):
                    return name, row.split()[1]
    return None


def unpack(name, target):
    folder = target + '.partial'
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    output('apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', name, cwd=folder)
    debs = glob.glob(folder + '/*.deb')
    if len(debs) != 1:
        return False
    subprocess.run(['dpkg-deb', '-x', debs[0], folder], check=True)
    os.unlink(debs[0])
    os.rename(folder, target)
    return True


def kernel_folder():
    """Where the package's files lie, below build/cache."""
    cached = sorted(glob.glob('build/cache/guest-kernel-*[0-9]'), key=os.path.getmtime)
    found = package_of_suite()
    if not found and cached:
        return cached[-1]
    if not found:
        output('apt-get', '-qq', 'update')
        found = package_of_suite()
    if not found:
        raise NoKernel(f'no package {META_PACKAGE}: apt-get update shows why')
    name, version = found
    target = f'build/cache/guest-kernel-{name.removeprefix("linux-image-")}-{version.replace(":", "-")}'
    if os.path.isdir(target):
        return target
    os.makedirs('build/cache', exist_ok=True)
    if not unpack(name, target):
        output('apt-get', '-qq', 'update')
        if not unpack(name, target):
            raise NoKernel(f'apt-get download {name} failed')
    for old in cached:
        shutil.rmtree(old)
    return target


def release_of(folder):
    return os.path.basename(glob.glob(folder + '/boot/vmlinuz-*')[0]).removeprefix('vmlinuz-')


def vmlinux_of(image):
    """The ELF file inside a bzImage: the boot protocol's header says where its compressed payload is."""
    if image[0x202:0x206] != b'HdrS' or struct.unpack_from('<H', image, 0x206)[0] < 0x208:
        raise NoKernel('the kernel is no bzImage')
    offset, size = struct.unpack_from('<II', image, 0x248)
    start = ((image[0x1f1] or 4) + 1) * 512 + offset
    payload = image[start:start + size - 4]  # behind it stands the uncompressed size
    for magic, command in DECOMPRESS.items():
        if payload.startswith(magic):
            elf = output(*command, input=payload)
            if elf.startswith(b'\x7fELF') and len(elf) >= struct.unpack_from('<I', image, start + size - 4)[0]:
                return elf
            raise NoKernel(f'{command[0]} did not unpack the kernel')
    raise NoKernel(f'the kernel is compressed in an unknown way ({payload[:4].hex()})')


# ---- the initramfs ----------------------------------------------------------------------------------------------------


class Modules:
    """Those that are wanted, with all they depend on, each behind what it needs."""

    def __init__(self, folder):
        self.paths = {}
        self.order = []
        for path in glob.glob(folder + '/**/*.ko', recursive=True):
            self.paths[os.path.basename(path)[:-3].replace('-', '_')] = path
        with open(folder + '/modules.builtin', encoding='ascii') as file:
            self.builtin = {os.path.basename(line.strip())[:-3].replace('-', '_') for line in file}

    def add(self, name):
        if name in self.order or name in self.builtin:
            return
        if name not in self.paths:
            raise NoKernel(f'this kernel has no module {name}')
        for needed in self.depends(name):
            self.add(needed)
        self.order.append(name)

    def depends(self, name):
        with open(self.paths[name], 'rb') as file:
            data = file.read()
        at = data.find(b'\0depends=') + len(b'\0depends=')
        return [word.replace('-', '_') for word in data[at:data.index(b'\0', at)].decode().split(',') if word]


class Cpio:
    """newc, not compressed: unpacking would cost more than reading."""

    def __init__(self):
        self.data = bytearray()
        self.count = 0

    def add(self, name, mode, content=b'', device=(0, 0)):
        self.count += 1
        fields = (self.count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
        self.data += b'070701' + b''.join(b'%08X' % field for field in fields) + name.encode() + b'\0'
        self.pad(4)
        self.data += content
        self.pad(4)

    def folder(self, *names):
        for name in names:
            self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, path, mode=0o644):
        with open(path, 'rb') as file:
            self.add(name, stat.S_IFREG | mode, file.read())

    def pad(self, size):
        self.data += bytes(-len(self.data) % size)

    def close(self):
        self.count = -1  # inode 0 for the last one, as cpio writes it
        self.add('TRAILER!!!', 0)
        self.pad(512)
        return bytes(self.data)
