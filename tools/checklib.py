"""What check and check-full are made of: stages with a budget and a deadline, and one tally of everything they ran."""
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), '..'))
LOGS = os.path.join(ROOT, 'build/check')
# Marks every process that a check starts, so that what outlives its deadline is found and ended.
MARK = 'BERTH_CHECK_RUN=' + uuid.uuid4().hex


BESIDE = 'beside'


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []   # names
        self.skipped = []  # (name, reason)
        self.unsteady = []  # names that failed beside others and passed alone; counted as passed

    def add(self, name, good):
        if good:
            self.passed += 1
        else:
            self.failed.append(name)

    def join(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.unsteady += other.unsteady

    def forgive(self, names):
        """Of those that failed: they passed when they were alone."""
        names = sorted(set(names))
        self.failed = [name for name in self.failed if name not in names]
        self.passed += len(names)
        self.unsteady += names

    def line(self):
        return f'{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped'


# A machine of two busy cores makes a deadline of seconds pass now and then. What failed is run once more, alone, and told by name; more than
# these at once is no accident.
SECOND_LOOKS = 4


class StageFailed(Exception):
    pass


def end_marked():
    """SIGKILL to everything that carries our mark, but us."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/environ', 'rb') as file:
                if MARK.encode() in file.read().split(b'\0') and int(pid) != os.getpid():
                    os.kill(int(pid), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            pass


def run(command, seconds, log, environment=None):
    """Runs to the end or the deadline; the output goes to build/check/<log>.log. Returns the exit code, None at the deadline."""
    os.makedirs(LOGS, exist_ok=True)
    key, value = MARK.split('=')
    environment = {**os.environ, **(environment or {}), key: value}
    with open(os.path.join(LOGS, log + '.log'), 'w') as out:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                   env=environment, start_new_session=True)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # pytest still takes its engine down
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                pass
            end_marked()
            process.wait()
            return None
        except BaseException:
            end_marked()
            raise


def log_tail(log, lines=40):
    with open(os.path.join(LOGS, log + '.log'), errors='replace') as file:
        return ''.join(file.readlines()[-lines:]).rstrip()


def need(command, seconds, log, environment=None):
    """run() for a step without which the stage can't go on."""
    code = run(command, seconds, log, environment)
    if code != 0:
        print(log_tail(log))
        raise StageFailed(f'{log}: ' + ('stopped at its deadline' if code is None else f'exit code {code}'))


def stage(name, budget, function):
    """One of them, with its line; what it counted."""
    tally, start = Tally(), time.monotonic()
    try:
        function(tally, 3 * budget + 30)
    except StageFailed as failure:
        tally.failed.append(str(failure))
    took = time.monotonic() - start
    counts = (tally.passed, 'passed'), (len(tally.failed), 'failed'), (len(tally.skipped), 'skipped')
    said = ', '.join(f'{count} {word}' for count, word in counts if count)
    late = '  (over its budget)' if took > budget else ''
    print(f'{name:<12} {took:6.1f} s of {budget:3d}  {said or "done"}{late}', flush=True)
    return tally


def stages(table, tally):
    """Runs (name, budget in seconds, function) in order; a stage that breaks is a failure, the next goes on. One with a fourth
    member, BESIDE, runs beside those that follow (two such at once): what waits most of its time leaves room for what computes."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = []
        for name, budget, function, *how in table:
            if how:
                running.append(pool.submit(stage, name, budget, function))
                continue
            one = stage(name, budget, function)
            tally.join(one)
            if name == 'build' and one.failed:
                break
        for job in running:
            tally.join(job.result())
    print(f'{"in all":<12} {time.monotonic() - began:6.1f} s')


def close(tally):
    """The names behind the numbers, then the closing line; the exit code."""
    by_reason = {}
    for name, reason in tally.skipped:
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        for name in names:
            print(f'skipped {name}: {reason}')
    for name in tally.unsteady:
        print(f'UNSTEADY {name}: failed beside others, passed alone')
    for name in tally.failed:
        print(f'FAILED {name}')
    print(tally.line(), flush=True)
    return 1 if tally.failed else 0


# ---- Meson ----------------------------------------------------------------------------------------------------------

def configure(folder, *options, environment=None):
    if not os.path.exists(os.path.join(ROOT, folder, 'build.ninja')):
        need(['meson', 'setup', folder, *options], 120, 'setup-' + os.path.basename(folder), environment)
    else:  # picks up changed meson.build files, so that the lists below are current
        need(['ninja', '--quiet', '-C', folder, 'build.ninja'], 120, 'setup-' + os.path.basename(folder), environment)


def targets(folder, kind, below):
    with open(os.path.join(ROOT, folder, 'meson-info/intro-targets.json')) as file:
        listed = json.load(file)
    base = os.path.join(ROOT, folder) + '/'
    files = [target['filename'][0][len(base):] for target in listed if target['type'] == kind]
    return [name for name in files if name.startswith(below)]


def build(folder, wanted, seconds, log):
    need(['ninja', '--quiet', '-k', '0', '-C', folder, *wanted], seconds, log)


def meson_tests(folder, suite, word=''):
    with open(os.path.join(ROOT, folder, 'meson-info/intro-tests.json')) as file:
        listed = json.load(file)
    return [test['name'] for test in listed if any(s.split(':')[-1] == suite for s in test['suite']) and word in test['name']]


def count_tap(tally, name, test):
    """Adds up one TAP program; a plan that was not fulfilled (a crash, a deadline) is a failure, and so is a bad end after cases
    that all passed (a leak). Returns whether nothing failed."""
    result, text, failed = test['result'], test.get('stdout') or '', len(tally.failed)
    planned, seen, said = None, 0, ''
    for line in text.splitlines():
        plan = re.match(r'1\.\.(\d+)', line)
        case = re.match(r'(not )?ok \d+(?: - )?(.*)', line)
        if plan:
            planned = int(plan[1])
        elif case:
            seen += 1
            title, _, directive = case[2].partition('#')
            if 'SKIP' in directive.upper():
                # cmocka writes the test's name after SKIP; the reason is what the test printed before.
                title = title.strip() or directive.strip()[4:].strip()
                tally.skipped.append((f'{name}: {title}', said.removeprefix('skipped: ') or 'the test gives no reason'))
            else:
                tally.add(f'{name}: {title.strip()}', not case[1])
            said = ''
        elif line.strip():
            said = line.strip('# ').strip()
    if result != 'OK' and (planned is None or seen < planned or result == 'TIMEOUT'):
        tally.failed.append(f'{name}: {result.lower()} after {seen} of {planned or "?"} cases')
    elif test['returncode'] and len(tally.failed) == failed:
        tally.failed.append(f'{name}: ended with {test["returncode"]} after its cases')
    return len(tally.failed) == failed


def run_meson_tests(folder, suite, seconds, log, tally, word='', environment=None):
    names = meson_tests(folder, suite, word)
    if not names:
        return
    code, mine, bad, explained = meson_run(folder, suite, seconds, log, names, 3, environment)
    if code is None:
        tally.failed.append(f'{log}: stopped at its deadline')
        return
    for name, said in bad.items():
        print(f'--- {name}\n' + '\n'.join(said.splitlines()[-40:]))
    if code and not explained:
        mine.failed.append(f'{log}: meson test ended with {code}')
    # What a sanitizer or a fuzzer found is never an accident.
    if suite != 'fuzz' and 0 < len(bad) <= SECOND_LOOKS and not any(re.search(SANITIZER, said) for said in bad.values()):
        worse = meson_run(folder, suite, seconds, log + '-again', list(bad), 1, environment)[2]
        mine.forgive([case for case in mine.failed if case.removeprefix(log + ': ').split(':')[0] in bad.keys() - worse.keys()])
    tally.join(mine)


SANITIZER = r'ERROR: \w+Sanitizer|runtime error:'


def meson_run(folder, suite, seconds, log, names, beside, environment):
    """The exit code (None at the deadline), what was counted, what the programs said that did not end well, and whether any explains the code:
    Meson takes cmocka's "not ok 1 # SKIP" for a failure."""
    code = run(['meson', 'test', '-C', folder, '--no-rebuild', '--num-processes', str(beside), '--suite', suite, *names], seconds, log,
               environment)
    prefix, mine, bad, explained = log.removesuffix('-again'), Tally(), {}, False
    with open(os.path.join(ROOT, folder, 'meson-logs/testlog.json')) as file:
        for line in file:
            test = json.loads(line)
            name = test['name'].split(' / ')[-1].split(':')[-1]
            if suite == 'fuzz':
                good = test['result'] == 'OK'
                mine.add(f'{prefix}: {name}', good)
            else:
                good = count_tap(mine, f'{prefix}: {name}', test)
            explained = explained or test['result'] not in ('OK', 'SKIP')
            if not good:
                bad[name] = f'{test["result"]}\n{test.get("stdout") or ""}{test.get("stderr") or ""}'
    return code, mine, bad, explained


# ---- pytest ---------------------------------------------------------------------------------------------------------

E2E_BESIDE = ['-n', '3', '--dist', 'loadfile']  # pytest-xdist: a worker has an engine of its own


def run_pytest(command, seconds, log, tally, prefix='', environment=None):
    code, mine, where = pytest_run(command, seconds, log, prefix, environment)
    if code is None:
        mine.failed.append(f'{log}: stopped at its deadline')
    elif code not in (0, 5) and not mine.failed:  # 5: no test has the wanted word
        mine.failed.append(f'{log}: pytest ended with {code}')
    if mine.failed:
        print(log_tail(log, 120))
    if 0 < len(mine.failed) <= SECOND_LOOKS and all(name in where for name in mine.failed):
        alone = [*command, *(['-n', '0'] if '-n' in command else []), *(where[name] for name in mine.failed)]
        code, second, _ = pytest_run(alone, seconds, log + '-again', prefix, environment)
        mine.forgive([name for name in mine.failed if code is not None and second.passed and name not in second.failed])
    tally.join(mine)
    return mine


def pytest_run(command, seconds, log, prefix, environment):
    """The exit code (None at the deadline), what was counted, and where pytest finds each that failed."""
    report = os.path.join(LOGS, log + '.xml')
    if os.path.exists(report):
        os.unlink(report)
    code, mine, where = run([*command, '-q', '--junitxml', report], seconds, log, environment), Tally(), {}
    if not os.path.exists(report):
        return code, mine, where
    for case in xml.etree.ElementTree.parse(report).iter('testcase'):
        module, test = case.get('classname', ''), case.get('name')
        name = f'{prefix}{module.split(".")[-1]}::{test}'
        kinds = {child.tag: child for child in case}
        if 'failure' in kinds or 'error' in kinds:
            mine.failed.append(name)
            where[name] = f'{module.replace(".", "/")}.py::{test}'
        elif 'skipped' in kinds:
            mine.skipped.append((name, kinds['skipped'].get('message') or ''))
        else:
            mine.passed += 1
    return code, mine, where


def refuse_without_root(name):
    if os.geteuid() != 0:
        print(f'make {name}: needs root (the end-to-end tests make containers)', file=sys.stderr)
        sys.exit(1)
