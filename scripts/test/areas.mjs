// Areas of the tests: `npm test -- AREA` runs one alone. A test file belongs to the first area whose pattern its path matches, so each
// runs once; `main` has all that no other takes. A new area is a line above it.
//   { name, pattern, checks: whether the checks of all sources (types, lint) belong to it }
export const areas = [
  { name: 'pci', pattern: /^(src\/vmm\/(pci|bus|devices\/pci-test)\/|src\/vmm\/machine\/pci-|lab\/tests\/pci)/ },
  { name: 'vfio', pattern: /^(src\/vmm\/vfio\/|src\/main\/host-devices\/|src\/main\/lease\/|lab\/tests\/(vfio|lease|host-devices))/ },
  { name: 'main', pattern: /./, checks: true },
];

/** Kinds of test files, by where they run. A file is of the first kind that it matches. */
const kinds = [
  { kind: 'kvm', pattern: /^src\/.*\.kvm\.test\.ts$/ },
  { kind: 'lab', pattern: /^lab\/tests\/.*\.lab\.test\.ts$/ },
  { kind: 'e2e', pattern: /^e2e\/.*\.spec\.ts$/ },
  { kind: 'unit', pattern: /^(src|lab|bench|scripts|e2e)\/.*\.test\.(ts|mjs)$/ },
];

/** The area that a test file (a path in the project) belongs to. */
export const areaOf = (path) => areas.find(({ pattern }) => pattern.test(path));

/** Test files by kind: { unit, kvm, lab, e2e }, of one area or of all. */
export function sortTests(paths, area) {
  const sorted = Object.fromEntries(kinds.map(({ kind }) => [kind, []]));
  for (const path of paths) {
    const kind = kinds.find(({ pattern }) => pattern.test(path))?.kind;
    if (kind !== undefined && (area === undefined || areaOf(path) === area)) sorted[kind].push(path);
  }
  return sorted;
}
