"""A first-level guest with a real KVM, by emulation: QEMU's software emulation has SVM, Debian's kernel in it loads kvm-amd, and the
host's files, with what was just built, are its own (read-only, by virtiofs). A script runs in it; its serial port is our output."""
import os
import shutil
import stat
import subprocess
import tempfile
import time

import kernellib as kernel

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..'))
FOLDER = 'build/kvm'
VIRTIOFSD = '/usr/lib/qemu/virtiofsd'
QEMU = 'qemu-system-x86_64'
# Without ERMS: it makes Linux clear pages with "rep stosb", a step of the emulator for each byte and four times what a copy takes.
# On hardware both cost the same.
PROCESSOR = 'max,+svm,-erms'

HOST_MODULES = ['virtio_pci', 'virtiofs', 'kvm_amd', 'tun', 'ext4', 'overlay', 'erofs', 'loop',
                'bridge', 'veth', 'nft_chain_nat', 'nft_ct', 'nft_fib_ipv4', 'nft_masq', 'nft_nat', 'nf_conntrack_netlink']
GUEST_MODULES = ['virtio_mmio', 'virtio_blk', 'nd_pmem', 'virtio_pmem', 'erofs', 'virtio_net', 'vmw_vsock_virtio_transport',
                 'virtio_rng', 'button', 'evdev']

CMDLINE = ('console=ttyS0 quiet nokaslr mitigations=off random.trust_cpu=on no_timer_check audit=0 8250.nr_uarts=1 '
           'cryptomgr.notests rcupdate.rcu_expedited=1 panic=-1')


def missing():
    """Why there can be no such guest here; None when there can."""
    if not shutil.which(QEMU):
        return f'{QEMU} is not installed'
    if not os.path.exists(VIRTIOFSD):
        return f'{VIRTIOFSD} is not installed'
    return None


# ---- what is booted -------------------------------------------------------------------------------------------------


def initramfs(path, folder, release, modules, init, tools=()):
    found = kernel.Modules(f'{folder}/lib/modules/{release}')
    for name in modules:
        found.add(name)
    cpio = kernel.Cpio()
    cpio.folder('bin', 'dev', 'modules')
    cpio.add('dev/console', stat.S_IFCHR | 0o600, device=(5, 1))
    cpio.file('init', init, 0o755)
    cpio.file('bin/busybox', '/bin/busybox', 0o755)
    for tool in tools:
        cpio.file('bin/' + os.path.basename(tool), tool, 0o755)
    for name in found.order:
        cpio.file(f'modules/{name}.ko', found.paths[name])
    cpio.add('modules/order', stat.S_IFREG | 0o644, ''.join(f'{name}.ko\n' for name in found.order).encode())
    kernel.write(path, cpio.close())


def layer(path, seed):
    """A small EROFS image whose files' sums stand beside them."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f'{folder}/data', 'wb') as file:
            file.write(bytes((seed * 7 + i // 256 + i) % 251 for i in range(65536)) * 24)
        subprocess.run('md5sum data >sums', shell=True, cwd=folder, check=True)
        if os.path.exists(path):
            os.unlink(path)
        subprocess.run(['mkfs.erofs', '-Enoinline_data', '-T0', path, folder], check=True, stdout=subprocess.DEVNULL)


def prepare():
    """Kernel and initramfs of both levels, layers, a docker client; made again only when something is newer."""
    folder = kernel.kernel_folder()
    release = kernel.release_of(folder)
    os.makedirs(FOLDER, exist_ok=True)
    if not os.path.exists(f'{FOLDER}/release') or open(f'{FOLDER}/release', encoding='ascii').read() != release:
        with open(f'{folder}/boot/vmlinuz-{release}', 'rb') as file:
            image = file.read()
        kernel.write(f'{FOLDER}/vmlinuz', image)
        kernel.write(f'{FOLDER}/vmlinux', kernel.vmlinux_of(image))
        kernel.write(f'{FOLDER}/release', release.encode())
    subprocess.run(['gcc', '-O2', '-static', '-s', '-o', f'{FOLDER}/guest_tool', 'tests/kvm/guest_tool.c'], check=True)
    initramfs(f'{FOLDER}/host-initramfs', folder, release, HOST_MODULES, 'tests/kvm/host_init')
    initramfs(f'{FOLDER}/guest-initramfs', folder, release, GUEST_MODULES, 'tests/kvm/guest_init', [f'{FOLDER}/guest_tool'])
    for number in (1, 2):
        layer(f'{FOLDER}/layer{number}.erofs', number)
    if not shutil.which('docker'):  # the guest sees our files read-only
        subprocess.run(['tools/peers', 'docker-cli'], check=True)


# ---- running --------------------------------------------------------------------------------------------------------


def qemu(socket, script, memory):
    return [QEMU, '-accel', 'tcg', '-cpu', PROCESSOR, '-M', 'q35,memory-backend=mem,sata=off,smbus=off,vmport=off',
            '-m', memory, '-object', f'memory-backend-memfd,id=mem,size={memory},share=on', '-smp', '1', '-nographic', '-nodefaults',
            '-no-reboot', '-serial', 'stdio', '-kernel', f'{FOLDER}/vmlinux', '-initrd', f'{FOLDER}/host-initramfs',
            '-chardev', f'socket,id=files,path={socket}', '-device', 'vhost-user-fs-pci,chardev=files,tag=host',
            '-append', f'{CMDLINE} root_folder={ROOT} script={script}']


def lines_of(script, seconds, memory='2G', words=()):
    """Boots, runs the script (a path in the tree) with these words (no blanks, no commas), yields the lines it writes."""
    with tempfile.TemporaryDirectory() as folder:
        socket = f'{folder}/files'
        files = subprocess.Popen([VIRTIOFSD, f'--socket-path={socket}', '-o', 'source=/', '-o', 'sandbox=chroot', '-o', 'cache=always'],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                if os.path.exists(socket):
                    break
                time.sleep(0.05)
            command = ['timeout', '-s', 'KILL', str(seconds), *qemu(socket, ','.join([script, *words]), memory)]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors='replace') as machine:
                try:
                    for line in machine.stdout:
                        yield line.rstrip('\r\n')
                finally:
                    machine.kill()
        finally:
            files.kill()
            files.wait()
