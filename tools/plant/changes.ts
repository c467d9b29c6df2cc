/**
 * The bugs that are planted: what a tired developer does, each as places in the syntax tree and what is written there
 * instead. None of them is a change of one operator; those are Stryker's. All of them are in one text, each behind a switch
 * of its own, so that the tests are loaded once.
 */
import ts from 'typescript'

/** One bug, by the number of its switch. */
export interface Planted {
  readonly id: string
  readonly change: string
  readonly file: string
  readonly line: number
  readonly was: string
}

/** Nodes, and what is written in place of each; undefined where the change does not fit. */
type Change = (node: ts.Node, source: ts.SourceFile) => readonly (readonly [ts.Node, string])[] | undefined

const textOf = (node: ts.Node, source: ts.SourceFile): string => node.getText(source)

/** What is called with a function for what it does, and not for what it returns. */
const CALLS_BACK =
  /^(finally|forEach|on|once|addEventListener|setTimeout|setInterval|setImmediate|queueMicrotask)$/

/** Does an expression stand here for what it does: as a line, or as all there is of a function that is called back? */
function isDone(node: ts.Node): boolean {
  if (ts.isExpressionStatement(node)) {
    const { expression } = node
    return !(
      ts.isStringLiteral(expression) ||
      (ts.isCallExpression(expression) && expression.expression.kind === ts.SyntaxKind.SuperKeyword)
    )
  }
  const { parent } = node
  if (parent === undefined || !ts.isArrowFunction(parent) || parent.body !== node || ts.isBlock(node))
    return false
  const call = parent.parent
  if (!ts.isCallExpression(call)) return false
  const callee = ts.isPropertyAccessExpression(call.expression) ? call.expression.name : call.expression
  return ts.isIdentifier(callee) && CALLS_BACK.test(callee.text)
}

/** Is this all that is left to do where a condition holds? */
function leaves(node: ts.Statement): boolean {
  if (ts.isBlock(node)) return node.statements.some(leaves)
  return (
    ts.isThrowStatement(node) ||
    ts.isReturnStatement(node) ||
    ts.isContinueStatement(node) ||
    ts.isBreakStatement(node)
  )
}

const isAwaiting = (node: ts.Node | undefined): boolean =>
  node !== undefined && ts.isExpressionStatement(node) && ts.isAwaitExpression(node.expression)

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
  'a line is forgotten': node =>
    isDone(node) ? [[node, ts.isExpressionStatement(node) ? ';' : 'undefined']] : undefined,
  'a case is forgotten': node =>
    ts.isIfStatement(node) && node.elseStatement === undefined && leaves(node.thenStatement)
      ? [[node, ';']]
      : undefined,
  'nothing is done finally': node =>
    ts.isBlock(node) && ts.isTryStatement(node.parent) && node.parent.finallyBlock === node
      ? [[node, '{}']]
      : undefined,
  'an await is forgotten': (node, source) =>
    ts.isExpressionStatement(node) && ts.isAwaitExpression(node.expression)
      ? [[node, `void ${textOf(node.expression.expression, source)}`]]
      : undefined,
  'released early: returned without await': (node, source) =>
    ts.isReturnStatement(node) &&
    node.expression !== undefined &&
    ts.isAwaitExpression(node.expression) &&
    isInsideTryWithFinally(node)
      ? [[node, `return ${textOf(node.expression.expression, source)}`]]
      : undefined,
  'two steps in the other order': (node, source) => {
    const next = nextOf(node)
    // What the second takes from the first cannot come before it: only whole statements without a name.
    return next !== undefined && isAwaiting(node) && isAwaiting(next)
      ? [
          [node, textOf(next, source)],
          [next, textOf(node, source)],
        ]
      : undefined
  },
  'the other end of two': (node, source) =>
    ts.isPropertyAccessExpression(node) && /^Math\.(min|max)$/.test(textOf(node, source))
      ? [[node, node.name.text === 'min' ? 'Math.max' : 'Math.min']]
      : undefined,
  'a unit is mistaken': (node, source) =>
    ts.isNumericLiteral(node) && !isName(node) && Number(node.text) >= 1000 && Number(node.text) % 1000 === 0
      ? [[node, String(Number(node.text) / 1000)]]
      : ts.isBinaryExpression(node) &&
          node.operatorToken.kind === ts.SyntaxKind.AsteriskToken &&
          /^1_?000$/.test(textOf(node.right, source))
        ? [[node, textOf(node.left, source)]]
        : undefined,
  'a key is too short': (node, source) => {
    if (!ts.isTemplateExpression(node) || node.templateSpans.length < 2) return undefined
    const parent = node.parent
    if (!ts.isCallExpression(parent) || !/\.(get|set|has|delete)$/.test(textOf(parent.expression, source)))
      return undefined
    return [[node, `\`\${${textOf(node.templateSpans[0]?.expression ?? node, source)}}\``]]
  },
  'compared in another time': (node, source) =>
    ts.isCallExpression(node) && /^(equalBytes|timingSafeEqual)$/.test(textOf(node.expression, source))
      ? [
          [
            node,
            `(Buffer.compare(${node.arguments.map(argument => textOf(argument, source)).join(', ')}) === 0)`,
          ],
        ]
      : undefined,
  'the first of a list only': (node, source) => {
    if (ts.isForOfStatement(node) && node.awaitModifier === undefined) {
      const list = textOf(node.expression, source)
      return [[node.expression, `[...(${list})].slice(0, 1)`]]
    }
    if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return undefined
    if (ts.isOptionalChain(node)) return undefined
    const { name, expression } = node.expression
    if (!/^(every|some|flatMap|find)$/.test(name.text)) return undefined
    return [[expression, `${textOf(expression, source)}.slice(0, 1)`]]
  },
}

/** A number that is a type or the name of a member. */
const isName = ({ parent }: ts.NumericLiteral): boolean =>
  ts.isLiteralTypeNode(parent) || ts.isPropertyAssignment(parent)

/** A file with a switch at each place where a change fits, and what they are. In a process or thread of its own nothing is switched on. */
export function withSwitches(
  file: string,
  text: string,
  chosen: (planted: Planted) => boolean,
): { readonly text: string; readonly places: readonly Planted[] } {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true)
  const places: Planted[] = []
  const instead = new Map<ts.Node, (readonly [id: string, text: string])[]>()
  const visit = (node: ts.Node): void => {
    for (const [change, fits] of Object.entries(CHANGES)) {
      const swaps = fits(node, source)
      if (swaps === undefined) continue
      const line = source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1
      const was = textOf(node, source).split('\n')[0] ?? ''
      const planted = { id: `${file}:${node.getStart(source)}:${change}`, change, file, line, was }
      if (!chosen(planted)) continue
      places.push(planted)
      for (const [at, other] of swaps) instead.set(at, [...(instead.get(at) ?? []), [planted.id, other]])
    }
    ts.forEachChild(node, visit)
  }
  visit(source)

  const written = (node: ts.Node): string => {
    let at = node.getStart(source)
    let out = ''
    ts.forEachChild(node, child => {
      out += text.slice(at, child.getStart(source)) + written(child)
      at = child.getEnd()
    })
    out += text.slice(at, node.getEnd())
    for (const [id, other] of instead.get(node) ?? []) {
      const on = `globalThis.planted?.(${JSON.stringify(id)})`
      out =
        ts.isStatement(node) || ts.isBlock(node)
          ? `{ if (${on}) { ${other} } else { ${out} } }`
          : `(${on} ? ${other} : ${out})`
    }
    return out
  }
  return { text: text.slice(0, source.getStart(source)) + written(source), places }
}
