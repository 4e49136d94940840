#!/usr/bin/python3
"""The inside of bench/vm, in the first-level guest. Rows on standard output."""
import os
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import machines as m  # noqa: E402

ROUNDS = 9
MEMORY = 256  # MiB
CMDLINE = m.CMDLINE + ' do=loop'


def berth(kernel):
    return [m.VMM, '--kernel', f'{m.KVM}/{kernel}', '--initrd', f'{m.KVM}/guest-initramfs', '--memory', f'{MEMORY}M',
            '--cmdline', CMDLINE]


def qemu(kernel):
    return ['qemu-system-x86_64', '-M', 'microvm,accel=kvm,pit=on,pic=on,rtc=on', '-cpu', 'host', '-m', f'{MEMORY}M', '-smp', '1',
            '-nodefaults', '-no-user-config', '-nographic', '-no-reboot', '-serial', 'stdio', '-kernel', f'{m.KVM}/{kernel}',
            '-initrd', f'{m.KVM}/guest-initramfs', '-append', CMDLINE]


def cpu_of_run(command):
    """User and system time of the process and everything it waited for, and the time that passed."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        raise SystemExit(f'# {command[0]}: status {status}')
    return used.ru_utime + used.ru_stime, time.monotonic() - began


def mappings(pid):
    """Start, end and PSS in KiB of each mapping, neighbours in order."""
    found = []
    with open(f'/proc/{pid}/smaps', encoding='ascii', errors='replace') as file:
        for line in file:
            if bounds := re.match(r'([0-9a-f]+)-([0-9a-f]+) ', line):
                found.append([int(bounds[1], 16), int(bounds[2], 16), 0])
            elif line.startswith('Pss:'):
                found[-1][2] = int(line.split()[1])
    return found


def ram_of(found):
    """Where the guest's RAM is: one mapping at least of its size, or neighbours that are exactly of its size together."""
    size = MEMORY << 20
    for i, (start, end, _) in enumerate(found):
        k = i
        while end - start < size and k + 1 < len(found) and found[k + 1][0] == end:
            k += 1
            end = found[k][1]
        if end - start == size or (k == i and end - start > size):
            return start, end
    return 0, 0


def pss_beside_ram(pids):
    total = 0
    for pid in pids:
        found = mappings(pid)
        ram = ram_of(found)
        total += sum(pss for start, end, pss in found if not (ram[0] <= start and end <= ram[1]))
    return total


def boot(command):
    """The guest's clock at its init, in seconds, and the memory beside its own."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               errors='replace')
    at = looping = None
    while not looping:
        line = process.stdout.readline()
        if not line:
            raise SystemExit('# the machine ended early')
        if found := re.search(r'init at ([0-9.]+)', line):
            at = float(found[1])
        looping = 'looping' in line
    memory = pss_beside_ram(m.process_tree(process.pid))
    process.kill()
    process.wait()
    return at, memory


def main():
    makers = {'berth-vmm': berth, 'qemu microvm': qemu}
    first = {name: [] for name in makers}
    for _ in range(ROUNDS + 1):  # the first one warms the files
        for name, maker in makers.items():
            first[name].append(cpu_of_run(maker('vmlinux-ends')))
            print(f'# {name}: {first[name][-1][0]:.3f} s of CPU to the first instruction', flush=True)
    boots = {name: [] for name in makers}
    for _ in range(3):
        for name, maker in makers.items():
            boots[name].append(boot(maker('vmlinux')))
            print(f'# {name}: init at {boots[name][-1][0]:.2f} s, {boots[name][-1][1]} KiB beside RAM', flush=True)
    print('| machine | first instruction, CPU s | wall s | kernel to init, s | beside RAM, MiB |', flush=True)
    for name in makers:
        cpu, wall = (statistics.median(run[i] for run in first[name][1:]) for i in (0, 1))
        print(f'| {name} | {cpu:.3f} | {wall:.3f} | {min(run[0] for run in boots[name]):.2f} | '
              f'{max(run[1] for run in boots[name]) / 1024:.1f} |', flush=True)


if __name__ == '__main__':
    main()
