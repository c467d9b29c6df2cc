/**
 * The bugs that are planted: what a tired developer does, each as a place in the syntax tree and what is written there
 * instead. None of them is a change of one operator; those are Stryker's.
 */
import ts from 'typescript'

/** One place in one file, and what is planted there. */
export interface Planted {
  readonly change: string
  readonly file: string
  readonly line: number
  readonly from: number
  readonly to: number
  readonly text: string
}

/** What to write in place of a node; undefined where the change does not fit. `to`: where it ends, if not with the node. */
type Change = (node: ts.Node, source: ts.SourceFile) => { text: string; until?: ts.Node } | undefined

const textOf = (node: ts.Node, source: ts.SourceFile): string => node.getText(source)

/** The call that a statement consists of, and its name: `wipe(a)`, `pin.dispose()`, `await x.release()`. */
function callOf(node: ts.Node): { name: string; call: ts.CallExpression } | undefined {
  if (!ts.isExpressionStatement(node)) return undefined
  const inner = ts.isAwaitExpression(node.expression) ? node.expression.expression : node.expression
  if (!ts.isCallExpression(inner)) return undefined
  const callee = inner.expression
  const name = ts.isIdentifier(callee)
    ? callee.text
    : ts.isPropertyAccessExpression(callee)
      ? callee.name.text
      : ''
  return { name, call: inner }
}

const dropCall =
  (pattern: RegExp): Change =>
  node => {
    const found = callOf(node)
    return found !== undefined && pattern.test(found.name) ? { text: ';' } : undefined
  }

const isAwaiting = (node: ts.Node | undefined): boolean =>
  node !== undefined &&
  ((ts.isExpressionStatement(node) && ts.isAwaitExpression(node.expression)) ||
    (ts.isVariableStatement(node) &&
      node.declarationList.declarations.some(
        ({ initializer }) => initializer && ts.isAwaitExpression(initializer),
      )))

/** The statement after this one in its block. */
function nextOf(node: ts.Node): ts.Statement | undefined {
  if (node.parent === undefined || !ts.isBlock(node.parent)) return undefined
  const { statements } = node.parent
  return statements[statements.indexOf(node as ts.Statement) + 1]
}

const isInsideTryWithFinally = (node: ts.Node): boolean => {
  for (let at: ts.Node = node; at.parent !== undefined && !ts.isFunctionLike(at); at = at.parent) {
    if (ts.isTryStatement(at.parent) && at.parent.tryBlock === at) return at.parent.finallyBlock !== undefined
  }
  return false
}

/** By name. Each looks at every node of every file. */
export const CHANGES: Readonly<Record<string, Change>> = {
  'a wipe is forgotten': dropCall(/^(wipe|dispose|fill|forgetScalar)$/),
  'a timer or listener is left': dropCall(/^(clearTimeout|clearInterval|removeEventListener|off)$/),
  'a check is forgotten': dropCall(/^(require[A-Z]\w*|throwIfAborted)$/),
  'nothing is done finally': node =>
    ts.isBlock(node) && ts.isTryStatement(node.parent) && node.parent.finallyBlock === node
      ? { text: '{}' }
      : undefined,
  'an await is forgotten': (node, source) =>
    ts.isExpressionStatement(node) && ts.isAwaitExpression(node.expression)
      ? { text: `void ${textOf(node.expression.expression, source)}` }
      : undefined,
  'released early: returned without await': (node, source) =>
    ts.isReturnStatement(node) &&
    node.expression !== undefined &&
    ts.isAwaitExpression(node.expression) &&
    isInsideTryWithFinally(node)
      ? { text: `return ${textOf(node.expression.expression, source)}` }
      : undefined,
  'two steps in the other order': (node, source) => {
    const next = nextOf(node)
    if (!isAwaiting(node) || next === undefined || !isAwaiting(next)) return undefined
    // What the second takes from the first cannot come before it: only whole statements without a name.
    if (!ts.isExpressionStatement(node) || !ts.isExpressionStatement(next)) return undefined
    return { text: `${textOf(next, source)}\n${textOf(node, source)}`, until: next }
  },
  'a unit is mistaken': (node, source) =>
    ts.isNumericLiteral(node) && Number(node.text) >= 1000 && Number(node.text) % 1000 === 0
      ? { text: String(Number(node.text) / 1000) }
      : ts.isBinaryExpression(node) &&
          node.operatorToken.kind === ts.SyntaxKind.AsteriskToken &&
          /^1_?000$/.test(textOf(node.right, source))
        ? { text: textOf(node.left, source) }
        : undefined,
  'a key is too short': (node, source) => {
    if (!ts.isTemplateExpression(node) || node.templateSpans.length < 2) return undefined
    const parent = node.parent
    if (!ts.isCallExpression(parent) || !/\.(get|set|has|delete)$/.test(textOf(parent.expression, source)))
      return undefined
    return { text: `\`\${${textOf(node.templateSpans[0]?.expression ?? node, source)}}\`` }
  },
  'compared in another time': (node, source) =>
    ts.isCallExpression(node) && /^(equalBytes|timingSafeEqual)$/.test(textOf(node.expression, source))
      ? {
          text: `(Buffer.compare(${node.arguments.map(argument => textOf(argument, source)).join(', ')}) === 0)`,
        }
      : undefined,
  'the first of a list only': (node, source) => {
    if (ts.isForOfStatement(node)) {
      const whole = textOf(node, source)
      const list = textOf(node.expression, source)
      const at = node.expression.getStart(source) - node.getStart(source)
      return { text: `${whole.slice(0, at)}[...(${list})].slice(0, 1)${whole.slice(at + list.length)}` }
    }
    if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return undefined
    const { name, expression } = node.expression
    if (!/^(every|some|flatMap|find)$/.test(name.text)) return undefined
    const args = node.arguments.map(argument => textOf(argument, source)).join(', ')
    return { text: `${textOf(expression, source)}.slice(0, 1).${name.text}(${args})` }
  },
}

/** Every place in a file where a change fits. */
export function placesIn(file: string, text: string): Planted[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true)
  const found: Planted[] = []
  const visit = (node: ts.Node): void => {
    for (const [change, fits] of Object.entries(CHANGES)) {
      const planted = fits(node, source)
      if (planted === undefined) continue
      const from = node.getStart(source)
      const line = source.getLineAndCharacterOfPosition(from).line + 1
      found.push({ change, file, line, from, to: (planted.until ?? node).getEnd(), text: planted.text })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

export const apply = (text: string, { from, to, text: instead }: Planted): string =>
  text.slice(0, from) + instead + text.slice(to)
