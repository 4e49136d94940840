"""What crun's tests use of python3-libmount, which Debian 12 doesn't have: a mountinfo file, and the options of one mount in it."""


class Filesystem:
    def __init__(self, line):
        left, right = line.split(' - ')
        self.target, self.vfs_options = left.split()[4:6]
        self.fs_options = right.split(' ')[2]  # the source before it may be empty


class Table:
    def __init__(self, path):
        with open(path) as file:
            self.filesystems = [Filesystem(line) for line in file if ' - ' in line]

    def find_target(self, target):
        return next((found for found in reversed(self.filesystems) if found.target == target), None)
